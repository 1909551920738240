import type { Socket } from "node:net";
import { assert } from "../../base/assert.ts";
import type { Connection, ConnectionHandlers } from "../net.ts";

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
  readonly #socket: Socket;
  #handlers: ConnectionHandlers | undefined;
  #paused = false;
  /** `write` has said false, and `drain` is owed. */
  #full = false;
  /** We have said that no more comes, so we do not want more either. */
  #ending = false;
  #error: Error | undefined;
  #closed = false;

  constructor(socket: Socket, peer: string) {
    this.peer = peer;
    this.#socket = socket;
    socket.on("error", (error) => {
      this.#error = error;
    });
    socket.on("close", () => {
      this.#closed = true;
      this.#reportClose();
    });
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
    this.#socket.on("data", (chunk: Buffer) => {
      if (!this.#ending) handlers.data(chunk);
    });
    this.#socket.on("drain", () => {
      if (!this.#full || this.#ending) return;
      this.#full = false;
      handlers.drain();
    });
    if (this.#paused) this.#socket.pause();
    else this.#socket.resume();
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
    if (this.#handlers !== undefined) this.#socket.resume();
  }

  end(): void {
    if (this.#ending) return;
    this.#ending = true;
    const socket = this.#socket;
    socket.once("finish", () => {
      setTimeout(() => socket.destroy(), lingerMs).unref();
    });
    socket.end();
    // Read on, into nothing: the peer's own end is seen only behind what it has sent.
    socket.resume();
  }

  destroy(): void {
    this.#ending = true;
    this.#socket.destroy();
  }

  #reportClose(): void {
    const handlers = this.#handlers;
    if (handlers === undefined) return;
    this.#handlers = undefined;
    handlers.close(this.#error);
  }
}
