import { assert } from "../src/base/assert.ts";

/** What released memory is overwritten with, so that whoever still reads it is found out. */
const scribble = 0xdb;

/** Chunks for `ConnectionHandlers.data` that are held to the rule: what is given back is not used again. */
export class LentMemory {
  readonly #outstandingBytes = new WeakMap<ArrayBufferLike, number>();

  /** A copy of the chunk, for a handler to keep until it releases it. */
  lend(chunk: Uint8Array): Uint8Array {
    const copy = new Uint8Array(chunk); // not slice, which for a Buffer is no copy
    this.#outstandingBytes.set(copy.buffer, copy.length);
    return copy;
  }

  release(chunk: Uint8Array, count: number): void {
    const outstandingBytes = this.#outstandingBytes.get(chunk.buffer);
    if (outstandingBytes === undefined) return; // memory of the handler's own
    assert(count <= outstandingBytes, "more is given back than was brought");
    this.#outstandingBytes.set(chunk.buffer, outstandingBytes - count);
    if (outstandingBytes === count) new Uint8Array(chunk.buffer).fill(scribble);
  }
}
