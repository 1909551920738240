/** Where to listen or connect. */
export type Address = { kind: "tcp"; host: string; port: number } | { kind: "unix"; path: string };

export interface Net {
  /**
   * Listens. A Unix socket file that nobody listens on any more is replaced; one in use, or a port
   * in use, fails with "busy".
   */
  listen(address: Address, accept: (connection: Connection) => void): Promise<Listener>;
  connect(address: Address): Promise<Connection>;
  /**
   * Whom to be and whom to trust in TLS. Throws "invalid" for texts that are no certificates or do not
   * belong together, "unsupported" where there is no TLS.
   */
  tlsContext(identity: TlsIdentity): TlsContext;
}

/** Texts in PEM. */
export interface TlsIdentity {
  /** A peer's certificate is good if it leads to one of these. */
  authorities: string;
  /** The authorities' lists of certificates that are not good any more. */
  revoked?: string | undefined;
  /** One's own certificate, those between it and the authority behind it. A client may have none. */
  certificate?: string | undefined;
  key?: string | undefined;
}

/** An identity that was looked at; whoever made it knows what is inside. */
export interface TlsContext {
  readonly kind: "tls-context";
}

export type TlsUpgrade =
  /** `verifyPeer`: who has no certificate of the authority's is refused. */
  | { role: "server"; context: TlsContext; verifyPeer: boolean }
  /** `hostName` must be in the server's certificate: a name or an IP address. */
  | { role: "client"; context: TlsContext; hostName: string };

/** What is known of the peer once its handshake is over. */
export interface TlsPeer {
  /** "TLSv1.3" */
  version: string;
  /** The common name in its certificate, which is a good one. Undefined if none was asked for. */
  name: string | undefined;
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
  /**
   * From here on everything goes through TLS. What has arrived in the clear and was not brought to
   * `data` yet is dropped. Before or after `start`; the handlers stay, none but `close` is called until
   * it completes, and nothing may be written. It has no time limit of its own: `destroy` ends it. Rejects,
   * and the connection closes, with "io" naming what is wrong with the peer or its certificate;
   * "unsupported" where there is no TLS.
   */
  startTls(upgrade: TlsUpgrade): Promise<TlsPeer>;
  /** Sends what is queued, then closes. */
  end(): void;
  /** Closes at once and drops what is queued. */
  destroy(): void;
}
