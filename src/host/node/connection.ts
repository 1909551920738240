import { Socket, type SocketConstructorOpts } from "node:net";
import { assert } from "../../base/assert.ts";
import { KelpieError } from "../../base/errors.ts";
import type { Connection, ConnectionHandlers, TlsPeer, TlsUpgrade } from "../net.ts";
import type { ReceiveBuffers, Receiving } from "./receive-buffers.ts";
import { upgradeToTls } from "./tls.ts";

/**
 * More than this queued for one peer, and it has stopped reading: a few of the largest replies.
 * What a server lets build up is this much for each connection.
 */
export const queuedBytesMax = 4 * 2 ** 20;

/**
 * How long the peer may take to close its side after we have sent everything. Closing at once would
 * make the system drop what the peer has not read yet, if it is sending at that moment.
 */
const lingerMs = 2_000;

export class NodeConnection implements Connection {
  readonly peer: string;
  #socket: Socket;
  readonly #buffers: ReceiveBuffers | undefined;
  #receiving: Receiving | undefined;
  #handlers: ConnectionHandlers | undefined;
  #paused = false;
  /** What came after `pause`: Node may have begun to receive again before it knew. */
  readonly #held: Uint8Array[] = [];
  /** It brings one record at a time, and what came in several is delivered together. */
  #isTls = false;
  #gathering = false;
  /** `write` has said false, and `drain` is owed. */
  #full = false;
  /** We have said that no more comes, so we do not want more either. */
  #ending = false;
  #error: Error | undefined;
  #closed = false;

  /** With `buffers` it receives into them: for those who give back what they were brought. */
  constructor(opened: Socket, options: { peer: string; buffers?: ReceiveBuffers }) {
    this.peer = options.peer;
    this.#buffers = options.buffers;
    this.#socket = this.#buffers === undefined ? opened : this.#receiveInto(opened, this.#buffers);
    this.#watch();
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  start(handlers: ConnectionHandlers): void {
    assert(this.#handlers === undefined, "a connection is started once");
    this.#handlers = handlers;
    if (this.#closed) {
      queueMicrotask(() => this.#reportClose());
      return;
    }
    this.#flow(handlers);
  }

  async startTls(upgrade: TlsUpgrade): Promise<TlsPeer> {
    if (this.#closed) throw new KelpieError("closed", `the connection to ${this.peer} is closed`);
    for (const chunk of this.#held.splice(0)) this.release(chunk, chunk.length);
    const plain = this.#socket;
    for (const event of ["data", "drain"]) plain.removeAllListeners(event);
    const { socket, peer } = await upgradeToTls(plain, { peer: this.peer, ...upgrade });
    this.#socket = socket;
    this.#isTls = true;
    this.#watch();
    if (this.#handlers !== undefined) this.#flow(this.#handlers);
    return peer;
  }

  /** Once either side has ended the bytes go nowhere, and it says false: `close` follows. */
  write(chunks: readonly Uint8Array[]): boolean {
    const socket = this.#socket;
    if (socket.destroyed || socket.writableEnded) return false;
    if (chunks.length === 1) {
      const only = chunks[0];
      if (only !== undefined) socket.write(only);
    } else {
      socket.cork();
      for (const chunk of chunks) socket.write(chunk);
      socket.uncork();
    }
    if (socket.writableLength > queuedBytesMax) this.#full = true;
    return !this.#full;
  }

  release(chunk: Uint8Array, count: number): void {
    this.#buffers?.release(chunk, count);
  }

  cork(): void {
    this.#socket.cork();
  }

  uncork(): void {
    this.#socket.uncork();
  }

  pause(): void {
    this.#paused = true;
    if (this.#handlers !== undefined) this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#deliver();
    if (this.#handlers !== undefined && !this.#paused) this.#socket.resume();
  }

  end(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#paused = false;
    const socket = this.#socket;
    socket.once("finish", () => {
      setTimeout(() => socket.destroy(), lingerMs).unref();
    });
    socket.end();
    // Read on, into nothing: the peer's own end is seen only behind what it has sent.
    this.#deliver();
    socket.resume();
  }

  destroy(): void {
    this.#ending = true;
    this.#socket.destroy();
  }

  /**
   * Node receives into memory of one's own (`onread`) only for sockets that one makes; a server's are
   * made by Node. So the connection is moved to a new socket, by its handle, which Node keeps in
   * a field that it does not document. Should that be gone, the socket stays what it is.
   */
  #receiveInto(accepted: Socket, buffers: ReceiveBuffers): Socket {
    const inner = accepted as unknown as { _handle?: object | null };
    const handle = inner._handle;
    if (handle === undefined || handle === null) return accepted;
    inner._handle = null;
    const receiving = buffers.take();
    this.#receiving = receiving;
    const options = {
      handle,
      pauseOnCreate: true, // until it is started
      allowHalfOpen: false,
      onread: {
        buffer: () => receiving.room(),
        callback: (count: number) => {
          this.#held.push(receiving.received(count));
          this.#deliver();
          return !this.#paused;
        },
      },
    };
    return new Socket(options as SocketConstructorOpts);
  }

  /** For its failure and its end. What a TLS session stands on fails and ends with the session. */
  #watch(): void {
    const socket = this.#socket;
    socket.on("error", (error) => {
      if (socket === this.#socket) this.#error = error;
    });
    socket.on("close", () => {
      if (socket !== this.#socket) return;
      this.#deliver();
      this.#closed = true;
      this.#receiving?.end();
      this.#reportClose();
    });
  }

  #flow(handlers: ConnectionHandlers): void {
    const socket = this.#socket;
    if (this.#receiving === undefined || this.#isTls) {
      socket.on("data", (chunk: Buffer) => {
        if (this.#isTls) this.#gather(chunk);
        else if (!this.#ending) handlers.data(chunk);
      });
    }
    socket.on("drain", () => {
      if (!this.#full || this.#ending) return;
      this.#full = false;
      handlers.drain();
    });
    if (this.#paused) socket.pause();
    else this.resume();
  }

  /**
   * Requests arrive in records of their own, some in two, and thirty of them in the same moment: one by one
   * they would be written, and answered, one by one. The memory that Node brings a record in is new each
   * time; it is copied, so that it is gone before it costs anything.
   */
  #gather(chunk: Uint8Array): void {
    if (this.#receiving === undefined) this.#held.push(chunk);
    else this.#receiving.append(chunk, this.#held);
    if (this.#gathering) return;
    this.#gathering = true;
    setImmediate(() => {
      this.#gathering = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    while (this.#held.length > 0 && !this.#paused) {
      const chunk = this.#held.shift() as Uint8Array;
      if (this.#ending) this.release(chunk, chunk.length);
      else this.#handlers?.data(chunk);
    }
  }

  #reportClose(): void {
    const handlers = this.#handlers;
    if (handlers === undefined) return;
    this.#handlers = undefined;
    handlers.close(this.#error);
  }
}
