import { assert } from "../../src/base/assert.ts";
import { blockBytes, sectorBytes } from "../../src/block/block-device.ts";

/**
 * What worlds use of a disk: some blocks of the first chunk, some around its end, and some behind the
 * first page of the map. Everything else stays a hole. The model knows a disk as the sectors of these
 * blocks, by index.
 */
const firstBlocks = [0, 1022, 1024 * 1024 + 5];
const counts = [12, 4, 2];

export interface Run {
  /** In the disk, in bytes. */
  offset: number;
  /** Of its sectors: the first index, and the one behind the last. */
  from: number;
  to: number;
}

const sectorsPerBlock = blockBytes / sectorBytes;

/** Neighbouring sectors that worlds use, in order. */
export const runs: readonly Run[] = firstBlocks.map((block, at) => {
  const before = counts.slice(0, at).reduce((sum, count) => sum + count, 0);
  const from = before * sectorsPerBlock;
  const to = from + (counts[at] as number) * sectorsPerBlock;
  return { offset: block * blockBytes, from, to };
});

export const sectorCount = (runs.at(-1) as Run).to;

/** Of a disk that has all of them, and of one that ends within the second run, within a block. */
export const sizes = {
  large: (1024 * 1024 + 8) * blockBytes,
  small: 1023 * blockBytes + 3 * sectorBytes,
};

/** How many of the sectors a disk of this size has. */
export function sectorsWithin(sizeBytes: number): number {
  let count = 0;
  for (const { offset, from, to } of runs) {
    const inside = Math.floor((sizeBytes - offset) / sectorBytes);
    count += Math.max(0, Math.min(to - from, inside));
  }
  return count;
}

/** Where a sector stands in the disk, in bytes. */
export function offsetOf(index: number): number {
  const run = runs.find(({ to }) => index < to);
  assert(run !== undefined, "a sector that worlds use");
  return run.offset + (index - run.from) * sectorBytes;
}

/** The sectors that a range of the disk covers whole. */
export function sectorsIn(offset: number, length: number): { from: number; to: number } {
  let from = sectorCount;
  let to = 0;
  for (const run of runs) {
    const first = Math.max(0, Math.ceil((offset - run.offset) / sectorBytes));
    const end = Math.floor((offset + length - run.offset) / sectorBytes);
    const last = Math.min(run.to - run.from, end);
    if (first >= last) continue;
    from = Math.min(from, run.from + first);
    to = Math.max(to, run.from + last);
  }
  return from < to ? { from, to } : { from: 0, to: 0 };
}

const placesMax = 256;
assert(sectorCount <= placesMax, "a sector's index fits into what it holds");

/** What a sector holds that a request wrote: who wrote it, and where. */
export function valueAt(request: number, index: number): number {
  return request * placesMax + index;
}

export function requestOf(value: number): number {
  return Math.floor(value / placesMax);
}

/** The bytes that a request writes to these sectors. */
export function bytesOf(request: number, from: number, to: number): Buffer {
  const words = new Uint32Array(((to - from) * sectorBytes) / 4);
  for (let index = from; index < to; index++) {
    const at = ((index - from) * sectorBytes) / 4;
    words.fill(valueAt(request, index), at, at + sectorBytes / 4);
  }
  return Buffer.from(words.buffer);
}

/**
 * What each sector of a range holds, from index `from` on. Throws if one is a mixture, or what was written
 * elsewhere.
 */
export function valuesIn(bytes: Buffer, from: number): Uint32Array {
  const values = new Uint32Array(bytes.length / sectorBytes);
  for (let at = 0; at < values.length; at++) {
    const start = at * sectorBytes;
    const value = bytes.readUInt32LE(start);
    const end = start + sectorBytes;
    if (bytes.compare(bytes, start, end - 4, start + 4, end) !== 0) {
      throw new Error(`sector ${from + at} is a mixture`);
    }
    if (value !== 0 && value % placesMax !== from + at) {
      throw new Error(`sector ${from + at} holds what was written to sector ${value % placesMax}`);
    }
    values[at] = value;
  }
  return values;
}

/** Reads all that worlds use of a disk that has `sectors` of them. */
export async function readValues(
  read: (target: Buffer, offset: number) => void | Promise<void>,
  sectors: number,
): Promise<Uint32Array> {
  const values = new Uint32Array(sectors);
  for (const { offset, from, to } of runs) {
    const end = Math.min(to, sectors);
    if (from >= end) break;
    const target = Buffer.allocUnsafe((end - from) * sectorBytes);
    await read(target, offset);
    values.set(valuesIn(target, from), from);
  }
  return values;
}
