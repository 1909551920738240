import { assert } from "./assert.ts";

const emptyChunk = new Uint8Array(0);

/**
 * Chunks as they arrive, taken off as messages need them. Payloads come out as lists of slices
 * and are never joined; a fixed-size header that straddles chunks is, because it is small.
 *
 * To parse a header without allocating: when `gather(n)` says true, its bytes are
 * `head[headOffset]` to `head[headOffset + n - 1]`; then `skip(n)`.
 */
export class ByteQueue {
  readonly #release: (chunk: Uint8Array, count: number) => void;
  #chunks: Uint8Array[] = [];
  #next = 0;
  #length = 0;
  /** The chunk at the front, of which `headOffset` bytes are used up. */
  head: Uint8Array = emptyChunk;
  headOffset = 0;

  /** `release` is told of bytes that nobody needs any more; what `take` gave is the taker's to release. */
  constructor(release: (chunk: Uint8Array, count: number) => void = () => {}) {
    this.#release = release;
  }

  get byteLength(): number {
    return this.#length;
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#length += chunk.length;
    if (this.headOffset === this.head.length && this.#next === this.#chunks.length) {
      this.head = chunk;
      this.headOffset = 0;
    } else {
      this.#chunks.push(chunk);
    }
  }

  /** Makes the first `count` bytes contiguous in `head`. False if they have not arrived. */
  gather(count: number): boolean {
    if (this.head.length - this.headOffset >= count) return true;
    if (this.#length < count) return false;
    if (this.headOffset === this.head.length) this.#advanceHead();
    if (this.head.length - this.headOffset < count) this.#joinHead(count);
    return true;
  }

  skip(count: number): void {
    assert(count <= this.#length, "skip past the end of a byte queue");
    this.#length -= count;
    let left = count;
    while (left > this.head.length - this.headOffset) {
      const rest = this.head.length - this.headOffset;
      if (rest > 0) this.#release(this.head, rest);
      left -= rest;
      this.#advanceHead();
    }
    if (left > 0) this.#release(this.head, left);
    this.headOffset += left;
    if (this.#length === 0) this.#forget();
  }

  /** The first `count` bytes as slices of the chunks they came in. They must have arrived. */
  take(count: number): Uint8Array[] {
    assert(count <= this.#length, "take past the end of a byte queue");
    const slices: Uint8Array[] = [];
    this.#length -= count;
    let left = count;
    while (left > 0) {
      const available = this.head.length - this.headOffset;
      if (available === 0) {
        this.#advanceHead();
        continue;
      }
      const size = Math.min(available, left);
      slices.push(this.head.subarray(this.headOffset, this.headOffset + size));
      this.headOffset += size;
      left -= size;
    }
    if (this.#length === 0) this.#forget();
    return slices;
  }

  /** Copies up to `target.length` bytes that have arrived; says how many. */
  copyInto(target: Uint8Array): number {
    const count = Math.min(target.length, this.#length);
    let done = 0;
    while (done < count) {
      const available = this.head.length - this.headOffset;
      if (available === 0) {
        this.#advanceHead();
        continue;
      }
      const size = Math.min(available, count - done);
      target.set(this.head.subarray(this.headOffset, this.headOffset + size), done);
      this.#release(this.head, size);
      this.headOffset += size;
      done += size;
    }
    this.#length -= count;
    if (this.#length === 0) this.#forget();
    return count;
  }

  #advanceHead(): void {
    this.head = this.#chunks[this.#next] as Uint8Array;
    this.#chunks[this.#next] = emptyChunk; // do not keep it alive
    this.#next++;
    this.headOffset = 0;
    if (this.#next === this.#chunks.length) {
      this.#chunks.length = 0;
      this.#next = 0;
    }
  }

  #joinHead(count: number): void {
    const joined = new Uint8Array(count);
    const length = this.#length;
    this.copyInto(joined);
    // What is left of the last chunk goes back behind the joined bytes.
    if (this.headOffset < this.head.length) {
      const rest = this.head.subarray(this.headOffset);
      if (this.#next > 0) this.#chunks[--this.#next] = rest;
      else this.#chunks.unshift(rest);
    }
    this.head = joined;
    this.headOffset = 0;
    this.#length = length;
  }

  #forget(): void {
    this.head = emptyChunk;
    this.headOffset = 0;
  }
}
