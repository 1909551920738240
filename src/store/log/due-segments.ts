import type { OpenSegment, SegmentPlace } from "./open-segment.ts";

/** What one sync of a log makes durable. */
export interface DueSegments {
  /** In the order in which they must be synced. */
  segments: readonly OpenSegment[];
  /** So many batches are durable then, and up to where that is. */
  target: number;
  place: SegmentPlace | undefined;
}

/**
 * Of the segments that are not synced, those up to the one that holds batch `awaited`, or all. Who waits
 * for a cut need not wait for what was written behind it, nor for the name of the segment that this is in.
 */
export function dueSegments(
  unsynced: readonly OpenSegment[],
  log: { awaited: number | undefined; applied: number; end: SegmentPlace | undefined },
): DueSegments {
  const { awaited = log.applied, applied, end } = log;
  const later = unsynced.findIndex(({ firstBatch }) => firstBatch > awaited);
  const first = unsynced[later];
  if (first === undefined) return { segments: [...unsynced], target: applied, place: end };
  const segments = unsynced.slice(0, later);
  return { segments, target: first.firstBatch - 1, place: segments.at(-1)?.place };
}
