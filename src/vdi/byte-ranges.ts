import { type Completion, isPending, settled } from "../base/completion.ts";
import { blockBytes, type Extent } from "../block/block-device.ts";
import type { BlockExtent } from "../store/extents.ts";

/** Reads whole blocks from block number `first` on. */
export type BlockRead = (target: Uint8Array, first: number) => Completion<void>;

/**
 * Any byte range, out of whole blocks. Whole blocks are read straight into the target; of a block at
 * either end a part is copied. Settles when nothing of it is under way any more.
 */
export function readBytes(read: BlockRead, target: Uint8Array, offset: number): Completion<void> {
  if (offset % blockBytes === 0 && target.length % blockBytes === 0) {
    return read(target, offset / blockBytes);
  }
  const end = offset + target.length;
  const start = Math.ceil(offset / blockBytes) * blockBytes;
  const wholeEnd = Math.floor(end / blockBytes) * blockBytes;
  const pending: Promise<void>[] = [];
  const begin = (part: Completion<void>): void => {
    if (isPending(part)) pending.push(part);
  };
  try {
    if (offset < start) {
      const some = target.subarray(0, Math.min(start, end) - offset);
      begin(readPart(read, some, offset));
    }
    if (start < wholeEnd) {
      const whole = target.subarray(start - offset, wholeEnd - offset);
      begin(read(whole, start / blockBytes));
    }
    if (start <= wholeEnd && wholeEnd < end) {
      begin(readPart(read, target.subarray(wholeEnd - offset), wholeEnd));
    }
  } catch (error) {
    if (pending.length === 0) throw error;
    pending.push(Promise.reject(error));
  }
  if (pending.length > 0) return settled(pending);
}

/** Used by reads that are done at once: a block for each would be garbage. */
let spareBlock: Uint8Array | undefined;

/** Bytes of one block. */
function readPart(read: BlockRead, target: Uint8Array, offset: number): Completion<void> {
  const block = spareBlock ?? Buffer.allocUnsafe(blockBytes);
  spareBlock = undefined;
  const first = Math.floor(offset / blockBytes);
  const start = offset - first * blockBytes;
  const copy = () => {
    target.set(block.subarray(start, start + target.length));
    spareBlock = block;
  };
  const done = read(block, first);
  return isPending(done) ? done.then(copy) : copy();
}

/** The blocks that a byte range touches. */
export function blocksOf(offset: number, length: number): { first: number; count: number } {
  const first = Math.floor(offset / blockBytes);
  return { first, count: Math.ceil((offset + length) / blockBytes) - first };
}

/** Extents of blocks as extents of the byte range they were asked for. */
export function clipExtents(
  extents: readonly BlockExtent[],
  range: { offset: number; length: number },
): Extent[] {
  const clipped: Extent[] = [];
  let at = Math.floor(range.offset / blockBytes) * blockBytes;
  const end = range.offset + range.length;
  for (const { blocks, value } of extents) {
    const from = Math.max(at, range.offset);
    at += blocks * blockBytes;
    const lengthBytes = Math.min(at, end) - from;
    if (lengthBytes > 0) clipped.push({ lengthBytes, value });
  }
  return clipped;
}
