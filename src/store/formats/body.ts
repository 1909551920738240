import { assert } from "../../base/assert.ts";
import { KelpieError } from "../../base/errors.ts";
import { readU64, writeU64 } from "./batch.ts";
import { decodeFrame, encodeFrame, type FrameKind, frameHeaderBytes, frameType } from "./frame.ts";
import { bytesOf, wordsOf } from "./segment.ts";

/**
 * A cleaned body: what is still needed of a segment or of a map object, behind an index that finds it
 * by the position (or offset) it was first written at. Locations therefore never change.
 *
 *   | frame: index | zero up to a multiple of 512 | items, back to back |
 *
 * Payload of the frame:
 *
 * | offset | size | name       | meaning                                                     |
 * | ------ | ---- | ---------- | ----------------------------------------------------------- |
 * | 0      | 8    | log        | of a segment; 0 for a map object                            |
 * | 8      | 4    | number     | of the segment or map object                                |
 * | 12     | 4    | generation | 1, 2, 3 …                                                   |
 * | 16     | 4    | itemCount  |                                                             |
 * | 20     | 4    |            | zero                                                        |
 * | 24     | 16·n | index      | by ascending place: u32 place, u32 a, u32 b, u32 c          |
 *
 * Segment (frame type 5): place is the block's position in units; a its CRC-32; b and c the low and
 * high half of its number in the disk. Items are blocks of 4,096 bytes, in the index's order.
 * Map object (frame type 6): place is the node's offset / 8; a its offset / 8 in this body; b its
 * length in bytes; c zero. Items are nodes (map-node.ts).
 */
export const segmentBodyKind: FrameKind = {
  type: frameType.segmentBody,
  version: 1,
  what: "cleaned segment",
};
export const mapBodyKind: FrameKind = {
  type: frameType.mapBody,
  version: 1,
  what: "cleaned map object",
};
const fixedBytes = 24;
const indexWords = 4;
const alignment = 512;

export interface BodyIndex {
  log: number;
  number: number;
  generation: number;
  /** Four words an item, as in the table above. */
  words: Uint32Array;
  /** Where the items begin in the file. */
  itemsOffset: number;
}

/** Bytes before the first item of a body of `itemCount` items. */
export function bodyItemsOffset(itemCount: number): number {
  const bytes = frameHeaderBytes + fixedBytes + itemCount * indexWords * 4;
  return Math.ceil(bytes / alignment) * alignment;
}

/** Everything before the items. */
export function encodeBodyIndex(
  kind: FrameKind,
  index: Omit<BodyIndex, "itemsOffset">,
): Uint8Array[] {
  const itemCount = index.words.length / indexWords;
  assert(Number.isInteger(itemCount));
  const fixed = Buffer.alloc(fixedBytes);
  writeU64(fixed, index.log, 0);
  fixed.writeUInt32LE(index.number, 8);
  fixed.writeUInt32LE(index.generation, 12);
  fixed.writeUInt32LE(itemCount, 16);
  const frame = encodeFrame(kind, Buffer.concat([fixed, bytesOf(index.words)]));
  const used = frame.reduce((sum, chunk) => sum + chunk.length, 0);
  return [...frame, Buffer.alloc(bodyItemsOffset(itemCount) - used)];
}

/** Bytes of the index part, from the first `frameHeaderBytes` bytes of a body. */
export function bodyIndexBytes(start: Buffer): number {
  return frameHeaderBytes + (start.length < frameHeaderBytes ? 0 : start.readUInt32LE(8));
}

export function decodeBodyIndex(kind: FrameKind, bytes: Uint8Array, object: string): BodyIndex {
  const payload = decodeFrame(kind, bytes, object);
  const view = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const itemCount = view.length < fixedBytes ? 0 : view.readUInt32LE(16);
  if (view.length !== fixedBytes + itemCount * indexWords * 4) {
    throw new KelpieError("corrupt", `${object} does not have the length its index says`);
  }
  const log = readU64(view, 0);
  if (!Number.isSafeInteger(log)) {
    throw new KelpieError("corrupt", `${object} is of a log that cannot be`);
  }
  return {
    log,
    number: view.readUInt32LE(8),
    generation: view.readUInt32LE(12),
    words: wordsOf(view.subarray(fixedBytes)),
    itemsOffset: bodyItemsOffset(itemCount),
  };
}

/** Which item stands at `place`, by binary search; -1 if none does. */
export function findItem(words: Uint32Array, place: number): number {
  let low = 0;
  let high = words.length / indexWords - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const at = words[middle * indexWords] as number;
    if (at === place) return middle;
    if (at < place) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
