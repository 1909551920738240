import { assert } from "../src/base/assert.ts";
import { KelpieError } from "../src/base/errors.ts";
import type {
  Address,
  Connection,
  ConnectionHandlers,
  Listener,
  Net,
  TlsContext,
  TlsPeer,
} from "../src/host/net.ts";
import { LentMemory } from "./lent-memory.ts";

export interface MemoryNetComponents {
  /** Runs an action in a later turn: how long bytes are on their way. */
  soon: (action: () => void) => void;
}

/** More than this on its way to one side, and `write` says false. As small as a test likes it. */
export const memoryQueuedBytesMax = 64 * 1024;

/** The first port that is given for port 0. */
const firstFreePort = 49_152;

/** Listeners and connections inside one process. */
export class MemoryNet implements Net {
  readonly #soon: (action: () => void) => void;
  readonly #listeners = new Map<string, (connection: Connection) => void>();
  #nextPort = firstFreePort;
  #connections = 0;

  constructor(components: MemoryNetComponents) {
    this.#soon = components.soon;
  }

  async listen(address: Address, accept: (connection: Connection) => void): Promise<Listener> {
    const effective = this.#withPort(address);
    const name = nameOf(effective);
    if (this.#listeners.has(name)) {
      throw new KelpieError("busy", `listen on ${name}: somebody listens there already`);
    }
    this.#listeners.set(name, accept);
    return {
      address: effective,
      close: async () => {
        this.#listeners.delete(name);
      },
    };
  }

  async connect(address: Address): Promise<Connection> {
    const name = nameOf(address);
    const accept = this.#listeners.get(name);
    if (accept === undefined) {
      throw new KelpieError("not-found", `connect to ${name}: nobody listens there`);
    }
    this.#connections += 1;
    const here = new MemoryConnection(name, this.#soon);
    const there = new MemoryConnection(`memory:${this.#connections}`, this.#soon);
    here.join(there);
    there.join(here);
    this.#soon(() => accept(there));
    return here;
  }

  tlsContext(): TlsContext {
    throw noTls();
  }

  #withPort(address: Address): Address {
    if (address.kind !== "tcp" || address.port !== 0) return address;
    this.#nextPort += 1;
    return { ...address, port: this.#nextPort - 1 };
  }
}

/**
 * One side. Each side hands its queue over to the other in later turns, chunk by chunk, in order.
 */
class MemoryConnection implements Connection {
  readonly peer: string;
  queuedBytes = 0;
  readonly lent = new LentMemory();
  readonly #soon: (action: () => void) => void;
  #other: MemoryConnection | undefined;
  #handlers: ConnectionHandlers | undefined;
  #queue: Uint8Array[] = [];
  #corks = 0;
  #paused = false;
  #full = false;
  #moving = false;
  #ended = false;
  #closed = false;

  constructor(peer: string, soon: (action: () => void) => void) {
    this.peer = peer;
    this.#soon = soon;
  }

  join(other: MemoryConnection): void {
    this.#other = other;
  }

  start(handlers: ConnectionHandlers): void {
    assert(this.#handlers === undefined, "a connection is started once");
    this.#handlers = handlers;
    if (this.#closed) this.#soon(() => this.#reportClose());
    else this.#other?.move();
  }

  write(chunks: readonly Uint8Array[]): boolean {
    if (this.#ended || this.#closed) return false;
    for (const chunk of chunks) {
      if (chunk.byteLength === 0) continue;
      // Lent by whom it arrives at, who must be told when it is given back.
      this.#queue.push(this.#other?.lent.lend(chunk) ?? chunk);
      this.queuedBytes += chunk.byteLength;
    }
    this.move();
    if (this.queuedBytes > memoryQueuedBytesMax) this.#full = true;
    return !this.#full;
  }

  release(chunk: Uint8Array, count: number): void {
    this.lent.release(chunk, count);
  }

  async startTls(): Promise<TlsPeer> {
    throw noTls();
  }

  cork(): void {
    this.#corks += 1;
  }

  uncork(): void {
    this.#corks -= 1;
    this.move();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#other?.move();
  }

  end(): void {
    this.#ended = true;
    this.#corks = 0;
    this.move();
  }

  destroy(): void {
    this.#close();
    this.#other?.peerEnded();
  }

  /** Arranges for what is queued to arrive. */
  move(): void {
    if (this.#moving || this.#closed) return;
    this.#moving = true;
    this.#soon(() => {
      this.#moving = false;
      this.#moveOne();
    });
  }

  /** The other side will send no more; as with half-open sockets not allowed, neither do we. */
  peerEnded(): void {
    this.end();
  }

  #moveOne(): void {
    const other = this.#other;
    if (this.#closed || other === undefined) return;
    if (this.#queue.length > 0) {
      if (this.#corks > 0 || !other.#accepts()) return;
      const chunk = this.#queue.shift();
      assert(chunk !== undefined, "the queue has a first chunk");
      this.queuedBytes -= chunk.byteLength;
      other.#deliver(chunk);
      if (this.#full && this.queuedBytes <= memoryQueuedBytesMax) {
        this.#full = false;
        if (!this.#ended) this.#handlers?.drain();
      }
      this.move();
    } else if (this.#ended) {
      other.peerEnded();
      this.#close();
    }
  }

  #accepts(): boolean {
    return this.#closed || this.#ended || (this.#handlers !== undefined && !this.#paused);
  }

  #deliver(chunk: Uint8Array): void {
    if (!this.#closed && !this.#ended) this.#handlers?.data(chunk);
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    this.queuedBytes = 0;
    this.#soon(() => this.#reportClose());
  }

  #reportClose(): void {
    const handlers = this.#handlers;
    this.#handlers = undefined;
    handlers?.close();
  }
}

function noTls(): KelpieError {
  return new KelpieError("unsupported", "the network in memory has no TLS");
}

function nameOf(address: Address): string {
  return address.kind === "unix" ? `unix:${address.path}` : `${address.host}:${address.port}`;
}
