import { assert } from "../base/assert.ts";

/** Small replies are carved from slabs: one allocation, and one chunk to send, for many of them. */
const slabBytes = 128 * 1024;
/** Larger replies get memory of their own, so that one that is late cannot hold much of others. */
const carvedBytesMax = slabBytes / 8;

/**
 * Collects replies and gives them out as few, long chunks. `reserve`, fill in, and either keep it
 * (do nothing more), `cancel` it, or `detach` it to be `append`ed when it is filled in later.
 */
export class ReplyBuffer {
  /** Where the last reserved room is: from `bytes[offset]`. */
  bytes: Uint8Array = new Uint8Array(0);
  offset = 0;
  #reserved = 0;
  #chunks: Uint8Array[] = [];
  #chunksBytes = 0;
  /** Of the slab: [start, position) is filled in and not yet in `chunks`. */
  #slab: Uint8Array = new Uint8Array(0);
  #start = 0;
  #position = 0;

  /** What is ready to be sent. */
  get byteLength(): number {
    return this.#chunksBytes + this.#position - this.#start;
  }

  reserve(count: number): void {
    this.#reserved = count;
    if (count > carvedBytesMax) {
      this.#seal();
      this.bytes = Buffer.allocUnsafeSlow(count);
      this.offset = 0;
      this.#push(this.bytes);
      return;
    }
    if (count > this.#slab.length - this.#position) {
      this.#seal();
      this.#slab = Buffer.allocUnsafeSlow(slabBytes);
      this.#start = 0;
      this.#position = 0;
    }
    this.bytes = this.#slab;
    this.offset = this.#position;
    this.#position += count;
  }

  /** Takes back what was reserved last. */
  cancel(): void {
    if (this.bytes === this.#slab) {
      this.#position -= this.#reserved;
    } else {
      this.#chunks.pop();
      this.#chunksBytes -= this.#reserved;
    }
    this.#reserved = 0;
  }

  /** Takes what was reserved last out of the order of replies; it is the caller's from now on. */
  detach(): Uint8Array {
    const room = this.bytes.subarray(this.offset, this.offset + this.#reserved);
    if (this.bytes === this.#slab) {
      const end = this.#position;
      this.#position = this.offset;
      this.#seal();
      this.#start = end;
      this.#position = end;
    } else {
      this.cancel();
    }
    return room;
  }

  append(chunk: Uint8Array): void {
    this.#seal();
    this.#push(chunk);
  }

  /** Everything that is ready, in order. */
  takeAll(): Uint8Array[] {
    this.#seal();
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#chunksBytes = 0;
    return chunks;
  }

  #seal(): void {
    if (this.#position === this.#start) return;
    assert(this.#position > this.#start, "a reply was taken back that was sent");
    this.#push(this.#slab.subarray(this.#start, this.#position));
    this.#start = this.#position;
  }

  #push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#chunksBytes += chunk.length;
  }
}
