/** Where to listen or connect. */
export type Address = { kind: "tcp"; host: string; port: number } | { kind: "unix"; path: string };

export interface Net {
  /**
   * Listens. A Unix socket file that nobody listens on any more is replaced; one in use, or a port
   * in use, fails with "busy".
   */
  listen(address: Address, accept: (connection: Connection) => void): Promise<Listener>;
  connect(address: Address): Promise<Connection>;
}

export interface Listener {
  /** The address in effect: port 0 is replaced by the port that was given. */
  readonly address: Address;
  /** Stops accepting, and removes the socket file. Connections stay as they are. */
  close(): Promise<void>;
}

export interface ConnectionHandlers {
  /** One incoming chunk; the bytes are the handler's until it gives them to `release`. */
  data(chunk: Uint8Array): void;
  /** The write queue fell below its limit after `write` had said false. */
  drain(): void;
  /** Called exactly once, last: the peer or we closed it, or it failed with `error`. */
  close(error?: Error): void;
}

/** A byte stream to a peer. Calls no handler before `start`. */
export interface Connection {
  /** For people: "127.0.0.1:51034" or "unix". */
  readonly peer: string;
  start(handlers: ConnectionHandlers): void;
  /**
   * Queues the chunks, in order, without copying; they must not change afterwards. False when
   * more than the limit is queued: stop producing until `drain`.
   */
  write(chunks: readonly Uint8Array[]): boolean;
  /** Bytes queued and not yet handed to the system. */
  readonly queuedBytes: number;
  /**
   * Gives back `count` bytes of a chunk that `data` brought, or of a part of it: their memory will be
   * received into again when all of the chunk is given back. Each byte once. What is never given back
   * stays the handler's.
   */
  release(chunk: Uint8Array, count: number): void;
  /** Between `cork` and `uncork` writes are gathered and leave together. */
  cork(): void;
  uncork(): void;
  /** Stops and resumes `data`. */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then closes. */
  end(): void;
  /** Closes at once and drops what is queued. */
  destroy(): void;
}
