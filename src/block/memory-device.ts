import { assert } from "../base/assert.ts";
import { KelpieError } from "../base/errors.ts";
import {
  type BlockDevice,
  deviceBytesMax,
  type Extent,
  type ExtentQuery,
  sectorBytes,
  type ZeroOptions,
} from "./block-device.ts";
import { ExtentList } from "./extent-list.ts";

/** The unit of allocation: what is written first takes this much. */
export const memoryChunkBytes = 64 * 1024;

/** Stands for a chunk that is allocated and all zeros, until something is written there. */
const zeroedChunk = new Uint8Array(memoryChunkBytes);

/**
 * A sparse disk in memory; everything completes at once. For tests, demonstrations and as the
 * ceiling in benchmarks. `zero` with keepAllocated takes time and a little memory for each chunk of
 * the range; nothing else grows with the size of holes.
 */
export class MemoryDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly = false;
  readonly #chunks = new Map<number, Uint8Array>();

  constructor(sizeBytes: number) {
    if (!(sizeBytes > 0 && sizeBytes <= deviceBytesMax && sizeBytes % sectorBytes === 0)) {
      throw new KelpieError("invalid", `a disk of ${sizeBytes} bytes cannot be`);
    }
    this.sizeBytes = sizeBytes;
  }

  /** Memory that holds data. */
  get allocatedBytes(): number {
    let count = 0;
    for (const chunk of this.#chunks.values()) if (chunk !== zeroedChunk) count++;
    return count * memoryChunkBytes;
  }

  read(target: Uint8Array, offset: number): void {
    this.#assertInside(offset, target.length);
    let done = 0;
    while (done < target.length) {
      const position = offset + done;
      const within = position % memoryChunkBytes;
      const count = Math.min(memoryChunkBytes - within, target.length - done);
      const chunk = this.#chunks.get((position - within) / memoryChunkBytes);
      if (chunk === undefined) target.fill(0, done, done + count);
      else target.set(chunk.subarray(within, within + count), done);
      done += count;
    }
  }

  write(chunks: readonly Uint8Array[], offset: number): void {
    let position = offset;
    for (const bytes of chunks) {
      this.#assertInside(position, bytes.length);
      this.#writeBytes(bytes, position);
      position += bytes.length;
    }
  }

  zero(offset: number, length: number, options?: ZeroOptions): void {
    this.#assertInside(offset, length);
    const keep = options?.keepAllocated === true;
    const end = offset + length;
    const firstWhole = Math.ceil(offset / memoryChunkBytes);
    const endWhole = this.#endOfWholeChunks(end);
    if (endWhole < firstWhole || (endWhole === firstWhole && offset < end)) {
      this.#zeroParts(offset, end, keep);
      return;
    }
    this.#zeroParts(offset, firstWhole * memoryChunkBytes, keep);
    if (keep) {
      for (let index = firstWhole; index < endWhole; index++) this.#chunks.set(index, zeroedChunk);
    } else {
      this.#drop(firstWhole, endWhole);
    }
    this.#zeroParts(Math.min(end, endWhole * memoryChunkBytes), end, keep);
  }

  trim(offset: number, length: number): void {
    this.zero(offset, length);
  }

  flush(): void {}

  cache(): void {}

  async extents(query: ExtentQuery): Promise<Extent[]> {
    const { offset, length, extentsMax } = query;
    this.#assertInside(offset, length);
    if (query.kind === "changed") {
      throw new KelpieError("not-found", `nothing is known about changes since ${query.since}`);
    }
    const list = new ExtentList(offset, offset + length, extentsMax);
    let index = Math.floor(offset / memoryChunkBytes);
    while (!list.full) {
      const chunk = this.#chunks.get(index);
      const next = chunk === undefined ? this.#nextAllocated(index + 1, list.end) : index + 1;
      list.upTo(next * memoryChunkBytes, extentValue(query.kind, chunk));
      index = next;
    }
    return list.extents;
  }

  async changeBases(): Promise<string[]> {
    return [];
  }

  #writeBytes(bytes: Uint8Array, offset: number): void {
    let done = 0;
    while (done < bytes.length) {
      const position = offset + done;
      const within = position % memoryChunkBytes;
      const count = Math.min(memoryChunkBytes - within, bytes.length - done);
      const chunk = this.#writableChunk((position - within) / memoryChunkBytes);
      chunk.set(count === bytes.length ? bytes : bytes.subarray(done, done + count), within);
      done += count;
    }
  }

  #writableChunk(index: number): Uint8Array {
    let chunk = this.#chunks.get(index);
    if (chunk === undefined || chunk === zeroedChunk) {
      chunk = new Uint8Array(memoryChunkBytes);
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }

  /** Index of the chunk at `end`, or one past the last if the disk's last, short chunk ends there. */
  #endOfWholeChunks(end: number): number {
    return end === this.sizeBytes
      ? Math.ceil(end / memoryChunkBytes)
      : Math.floor(end / memoryChunkBytes);
  }

  /** Zeros what lies in chunks that the range covers only in part. */
  #zeroParts(start: number, end: number, keep: boolean): void {
    let position = start;
    while (position < end) {
      const within = position % memoryChunkBytes;
      const count = Math.min(memoryChunkBytes - within, end - position);
      const index = (position - within) / memoryChunkBytes;
      const chunk = this.#chunks.get(index);
      if (chunk !== undefined && chunk !== zeroedChunk) chunk.fill(0, within, within + count);
      else if (keep) this.#chunks.set(index, zeroedChunk);
      position += count;
    }
  }

  #drop(first: number, end: number): void {
    if (end - first <= this.#chunks.size) {
      for (let index = first; index < end; index++) this.#chunks.delete(index);
      return;
    }
    for (const index of this.#chunks.keys()) {
      if (index >= first && index < end) this.#chunks.delete(index);
    }
  }

  /** The first allocated chunk at or after `from`, or the one at `endBytes`. */
  #nextAllocated(from: number, endBytes: number): number {
    const end = Math.ceil(endBytes / memoryChunkBytes);
    if (end - from <= this.#chunks.size) {
      for (let index = from; index < end; index++) if (this.#chunks.has(index)) return index;
      return Math.max(from, end);
    }
    let next = Math.max(from, end);
    for (const index of this.#chunks.keys()) if (index >= from && index < next) next = index;
    return next;
  }

  #assertInside(offset: number, length: number): void {
    assert(offset >= 0 && offset + length <= this.sizeBytes, "range outside of the device");
  }
}

function extentValue(kind: "allocation" | "depth", chunk: Uint8Array | undefined): number {
  if (kind === "depth") return chunk === undefined ? 0 : 1;
  if (chunk === undefined) return 1;
  return chunk === zeroedChunk ? 2 : 0;
}
