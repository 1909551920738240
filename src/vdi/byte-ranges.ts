import { type Completion, isPending } from "../base/completion.ts";
import { blockBytes, type Extent } from "../block/block-device.ts";
import type { BlockExtent } from "../store/extents.ts";

/** Reads whole blocks from block number `first` on. */
export type BlockRead = (target: Uint8Array, first: number) => Completion<void>;

/** Any byte range, out of whole blocks. What is aligned is read straight into the target. */
export function readBytes(read: BlockRead, target: Uint8Array, offset: number): Completion<void> {
  if (offset % blockBytes === 0 && target.length % blockBytes === 0) {
    return read(target, offset / blockBytes);
  }
  const first = Math.floor(offset / blockBytes);
  const end = Math.ceil((offset + target.length) / blockBytes);
  const blocks = Buffer.allocUnsafe((end - first) * blockBytes);
  const done = read(blocks, first);
  const copy = () => {
    const start = offset - first * blockBytes;
    target.set(blocks.subarray(start, start + target.length));
  };
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
