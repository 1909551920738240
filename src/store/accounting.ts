import type { Point } from "./point.ts";
import { firstSegmentId, type SegmentTable } from "./segment.ts";

/**
 * Keeps the counts right when a point stops mapping a block. A block dies when its owner stops mapping
 * it; what an ancestor owns goes on living there, and may become exclusive to it.
 */
export function releaseBlock(point: Point, segmentId: number, segments: SegmentTable): void {
  point.mappedBlocks--;
  if (segmentId < firstSegmentId) return;
  const segment = segments.get(segmentId);
  if (segment === undefined) return;
  const owner = segment.ownerOf();
  if (owner === point) {
    segment.live--;
    point.exclusiveBlocks--;
  } else if (owner === point.parent && owner.children.size === 1) {
    owner.exclusiveBlocks++;
  }
}
