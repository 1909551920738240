import { assert } from "./assert.ts";
import type { BufferPool } from "./buffer-pool.ts";

/** Small replies are carved from slabs: one chunk to send for many of them. */
const slabBytes = 128 * 1024;
/** Larger replies get memory of their own, so that one that is late cannot hold much of others. */
const carvedBytesMax = slabBytes / 8;

/**
 * Collects replies and gives them out as few, long chunks. `reserve`, fill in, and either keep it
 * (do nothing more), `cancel` it, or `detach` it to be `append`ed when it is filled in later.
 */
export class ReplyBuffer {
  readonly #pool: BufferPool;
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
  /** A part of the slab was detached: somebody may write to it at any time. */
  #slabIsShared = false;
  /** Bytes that were taken, ever. */
  #takenBytes = 0;
  /** Memory that goes back to the pool when so many bytes of all that was taken are sent, in order. */
  readonly #used: { memory: ArrayBuffer; untilBytes: number }[] = [];

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** What is ready to be sent. */
  get byteLength(): number {
    return this.#chunksBytes + this.#position - this.#start;
  }

  reserve(count: number): void {
    this.#reserved = count;
    if (count > carvedBytesMax) {
      this.#seal();
      const memory = this.#pool.take(count);
      this.bytes = new Uint8Array(memory, 0, count);
      this.offset = 0;
      this.#push(this.bytes);
      this.#usedUp(memory);
      return;
    }
    if (count > this.#slab.length - this.#position) this.#newSlab();
    this.bytes = this.#slab;
    this.offset = this.#position;
    this.#position += count;
  }

  /** Takes back what was reserved last. */
  cancel(): void {
    if (this.bytes === this.#slab) {
      this.#position -= this.#reserved;
    } else {
      this.#popLarge();
      this.#pool.give(this.bytes.buffer as ArrayBuffer);
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
      this.#slabIsShared = true;
    } else {
      this.#popLarge();
    }
    return room;
  }

  append(chunk: Uint8Array): void {
    this.#seal();
    this.#push(chunk);
  }

  /** Appends what was detached, filled in. */
  attach(room: Uint8Array): void {
    this.append(room);
    if (room.length > carvedBytesMax) this.#usedUp(room.buffer as ArrayBuffer);
  }

  /** Everything that is ready, in order. */
  takeAll(): Uint8Array[] {
    this.#seal();
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#takenBytes += this.#chunksBytes;
    this.#chunksBytes = 0;
    return chunks;
  }

  /** Of all that was taken only the last `unsentBytes` are not sent yet: the rest is used again. */
  reuse(unsentBytes: number): void {
    const sentBytes = this.#takenBytes - unsentBytes;
    for (let next = this.#used[0]; next !== undefined; next = this.#used[0]) {
      if (next.untilBytes > sentBytes) return;
      this.#used.shift();
      this.#pool.give(next.memory);
    }
    if (unsentBytes > 0 || this.byteLength > 0 || this.#slabIsShared) return;
    this.#start = 0;
    this.#position = 0;
  }

  #newSlab(): void {
    this.#seal();
    if (!this.#slabIsShared && this.#slab.length > 0) {
      this.#usedUp(this.#slab.buffer as ArrayBuffer);
    }
    this.#slab = new Uint8Array(this.#pool.take(slabBytes), 0, slabBytes);
    this.#slabIsShared = false;
    this.#start = 0;
    this.#position = 0;
  }

  /** What was pushed so far is the last that memory holds. */
  #usedUp(memory: ArrayBuffer): void {
    this.#used.push({ memory, untilBytes: this.#takenBytes + this.#chunksBytes });
  }

  #popLarge(): void {
    this.#used.pop();
    this.#chunks.pop();
    this.#chunksBytes -= this.#reserved;
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
