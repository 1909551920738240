import { LentMemory } from "../../sim/lent-memory.ts";
import { KelpieError } from "../../src/base/errors.ts";
import type {
  Address,
  Connection,
  ConnectionHandlers,
  Listener,
  Net,
  TlsContext,
  TlsPeer,
} from "../../src/host/net.ts";

export interface MemoryNetSettings {
  /** Chunks are cut to this size on their way; Infinity (the default) leaves them as written. */
  chunkBytesMax?: number;
  /** What may be queued before `write` says false. */
  queuedBytesMax?: number;
}

/** A network inside the process: chunks arrive in a later microtask. */
export class MemoryNet implements Net {
  readonly #settings: Required<MemoryNetSettings>;
  readonly #listening = new Map<string, (connection: Connection) => void>();
  #nextPort = 49_152;
  /** The listeners' ends of all connections that were made. */
  readonly accepted: MemoryConnection[] = [];

  constructor(settings: MemoryNetSettings = {}) {
    this.#settings = {
      chunkBytesMax: settings.chunkBytesMax ?? Number.POSITIVE_INFINITY,
      queuedBytesMax: settings.queuedBytesMax ?? 2 ** 20,
    };
  }

  async listen(address: Address, accept: (connection: Connection) => void): Promise<Listener> {
    const actual =
      address.kind === "tcp" && address.port === 0
        ? { ...address, port: this.#nextPort++ }
        : address;
    const key = JSON.stringify(actual);
    if (this.#listening.has(key)) throw new KelpieError("busy", `${key} is in use`);
    this.#listening.set(key, accept);
    return {
      address: actual,
      close: async () => {
        this.#listening.delete(key);
      },
    };
  }

  tlsContext(): TlsContext {
    return { kind: "tls-context" };
  }

  /** Whoever listened there is gone. */
  stopListening(address: Address): void {
    this.#listening.delete(JSON.stringify(address));
  }

  async connect(address: Address): Promise<MemoryConnection> {
    const accept = this.#listening.get(JSON.stringify(address));
    if (accept === undefined) throw new KelpieError("not-found", "nobody listens there");
    const [near, far] = MemoryConnection.pair(this.#settings);
    this.accepted.push(far);
    accept(far);
    return near;
  }
}

export class MemoryConnection implements Connection {
  readonly peer = "memory";
  readonly #settings: Required<MemoryNetSettings>;
  readonly #lent = new LentMemory();
  #other: MemoryConnection | undefined;
  #handlers: ConnectionHandlers | undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** The most that was ever queued. */
  queuedBytesPeak = 0;
  /** What arrived here and was not given back yet, and the most that this ever was. */
  heldBytes = 0;
  heldBytesPeak = 0;
  readonly #arrived = new WeakSet<ArrayBufferLike>();
  #corked = 0;
  #paused = false;
  #full = false;
  #deliveryIsDue = false;
  #ending = false;
  #closed = false;

  private constructor(settings: Required<MemoryNetSettings>) {
    this.#settings = settings;
  }

  static pair(settings: Required<MemoryNetSettings>): [MemoryConnection, MemoryConnection] {
    const near = new MemoryConnection(settings);
    const far = new MemoryConnection(settings);
    near.#other = far;
    far.#other = near;
    return [near, far];
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  start(handlers: ConnectionHandlers): void {
    this.#handlers = handlers;
    if (this.#closed) queueMicrotask(() => this.#report());
    this.#pull();
  }

  write(chunks: readonly Uint8Array[]): boolean {
    const other = this.#other;
    if (this.#closed || this.#ending || other === undefined) return false;
    for (const chunk of chunks) {
      this.#queue.push(other.#lent.lend(chunk));
      this.#queuedBytes += chunk.length;
    }
    this.queuedBytesPeak = Math.max(this.queuedBytesPeak, this.#queuedBytes);
    if (this.#queuedBytes > this.#settings.queuedBytesMax) this.#full = true;
    this.#schedule();
    return !this.#full;
  }

  release(chunk: Uint8Array, count: number): void {
    if (this.#arrived.has(chunk.buffer)) this.heldBytes -= count;
    this.#lent.release(chunk, count);
  }

  async startTls(): Promise<TlsPeer> {
    throw new KelpieError("unsupported", "the network in memory has no TLS");
  }

  cork(): void {
    this.#corked++;
  }

  uncork(): void {
    this.#corked--;
    this.#schedule();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#pull();
  }

  end(): void {
    this.#ending = true;
    this.#schedule();
  }

  destroy(): void {
    const other = this.#other;
    this.#close();
    if (other !== undefined) other.#close();
  }

  #schedule(): void {
    if (this.#deliveryIsDue) return;
    this.#deliveryIsDue = true;
    queueMicrotask(() => {
      this.#deliveryIsDue = false;
      this.#deliver();
    });
  }

  /** We can take bytes now. */
  #pull(): void {
    if (this.#other !== undefined) this.#other.#schedule();
  }

  #deliver(): void {
    const other = this.#other;
    while (this.#queue.length > 0 && this.#corked === 0) {
      if (this.#closed || other === undefined || other.#paused) return;
      if (other.#handlers === undefined) return;
      const chunk = this.#queue.shift() as Uint8Array;
      const count = Math.min(chunk.length, this.#settings.chunkBytesMax);
      if (count < chunk.length) this.#queue.unshift(chunk.subarray(count));
      this.#queuedBytes -= count;
      if (count > 0) other.#arrive(chunk.subarray(0, count));
    }
    if (this.#queue.length > 0 || this.#closed) return;
    if (this.#full) {
      this.#full = false;
      this.#handlers?.drain();
    }
    if (this.#ending && this.#queue.length === 0) this.destroy(); // half-open is not modelled
  }

  #arrive(chunk: Uint8Array): void {
    this.#arrived.add(chunk.buffer);
    this.heldBytes += chunk.length;
    this.heldBytesPeak = Math.max(this.heldBytesPeak, this.heldBytes);
    this.#handlers?.data(chunk);
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    this.#queuedBytes = 0;
    if (this.#handlers !== undefined) queueMicrotask(() => this.#report());
  }

  #report(): void {
    const handlers = this.#handlers;
    this.#handlers = undefined;
    handlers?.close();
  }
}
