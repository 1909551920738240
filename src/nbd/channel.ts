import { assert } from "../base/assert.ts";
import { ByteQueue } from "../base/byte-queue.ts";
import { KelpieError } from "../base/errors.ts";
import type { Connection, TlsPeer, TlsUpgrade } from "../host/net.ts";

/** Who takes the bytes once the handshake is over. */
export interface Receiver {
  /** More bytes are in the channel's queue. */
  data(): void;
  drain(): void;
  /** Last of all. */
  closed(error: Error | undefined): void;
}

/** While nobody waits for more than this, no more is read: a handshake's messages are small. */
const unreadBytesMax = 64 * 1024;

/**
 * A connection as the handshake sees it: messages are waited for one after the other. Then it is
 * handed over to a receiver, for which every byte counts.
 */
export class Channel {
  readonly connection: Connection;
  readonly queue: ByteQueue;
  /** Resolves when the connection is closed, by whomever; never rejects. */
  readonly closed: Promise<void>;
  #settleClosed: () => void = () => {};
  #isClosed = false;
  #closeError: Error | undefined;
  #paused = false;
  /** Says that the peer has taken enough of what was sent; there is one while it has not. */
  #drain: { promise: Promise<void>; resolve(): void } | undefined;
  #receiver: Receiver | undefined;
  #waiting: { count: number; resolve(): void; reject(error: Error): void } | undefined;

  constructor(connection: Connection) {
    this.connection = connection;
    this.queue = new ByteQueue((chunk, count) => connection.release(chunk, count));
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    connection.start({
      data: (chunk) => this.#data(chunk),
      drain: () => this.#drained(),
      close: (error) => this.#close(error),
    });
  }

  /**
   * The next `count` bytes, once the peer has taken what was sent: who does not listen is not
   * listened to. Throws "closed" if the connection ends before.
   */
  async take(count: number): Promise<Uint8Array> {
    if (this.#drain !== undefined) await this.#drain.promise;
    if (this.queue.byteLength < count) await this.#arrival(count);
    const bytes = new Uint8Array(count);
    this.queue.copyInto(bytes);
    this.#resume();
    return bytes;
  }

  async discard(count: number): Promise<void> {
    let left = count;
    while (left > 0) {
      if (this.queue.byteLength === 0) await this.#arrival(1);
      const some = Math.min(left, this.queue.byteLength);
      this.queue.skip(some);
      left -= some;
      this.#resume();
    }
  }

  send(bytes: Uint8Array): void {
    if (this.#isClosed || this.connection.write([bytes])) return;
    this.#drain ??= Promise.withResolvers<void>();
  }

  /**
   * Goes on in TLS. What the peer has sent behind the words that led to it was sent in the clear, perhaps
   * by somebody in between, and must not be taken for what it says in TLS: it is dropped, and then
   * `invitation` is sent. Throws what `Connection.startTls` throws.
   */
  async startTls(upgrade: TlsUpgrade, invitation: Uint8Array): Promise<TlsPeer> {
    assert(this.#receiver === undefined, "TLS begins in the handshake");
    if (invitation.length > 0) this.send(invitation);
    const upgraded = this.connection.startTls(upgrade);
    // Only now does nothing more come in the clear: a connection may hold some back while it is paused.
    this.queue.skip(this.queue.byteLength);
    const peer = await upgraded;
    this.#resume();
    return peer;
  }

  /** Gives the bytes that are there, and all that follow, to the receiver. */
  handOver(receiver: Receiver): void {
    this.#receiver = receiver;
    this.#resume();
    if (this.#isClosed) receiver.closed(this.#closeError);
    else receiver.data();
  }

  #data(chunk: Uint8Array): void {
    this.queue.push(chunk);
    if (this.#receiver !== undefined) {
      this.#receiver.data();
      return;
    }
    const waiting = this.#waiting;
    if (waiting !== undefined) {
      if (this.queue.byteLength < waiting.count) return;
      this.#waiting = undefined;
      waiting.resolve();
    }
    if (this.queue.byteLength > unreadBytesMax && !this.#paused) {
      this.#paused = true;
      this.connection.pause();
    }
  }

  #drained(): void {
    this.#drain?.resolve();
    this.#drain = undefined;
    this.#receiver?.drain();
  }

  #arrival(count: number): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.#lost());
    return new Promise((resolve, reject) => {
      this.#waiting = { count, resolve, reject };
      if (this.#paused) {
        this.#paused = false;
        this.connection.resume();
      }
    });
  }

  #resume(): void {
    if (!this.#paused) return;
    if (this.#receiver === undefined && this.queue.byteLength > unreadBytesMax) return;
    this.#paused = false;
    this.connection.resume();
  }

  #close(error: Error | undefined): void {
    this.#isClosed = true;
    this.#closeError = error;
    this.#drain?.resolve();
    this.#waiting?.reject(this.#lost());
    this.#waiting = undefined;
    this.#receiver?.closed(error);
    this.#settleClosed();
  }

  #lost(): KelpieError {
    const message = `the connection to ${this.connection.peer} ended`;
    return new KelpieError("closed", message, { cause: this.#closeError });
  }
}
