import type { OpenSegment } from "./open-segment.ts";

/** Times that a failed sync is answered by writing its data again elsewhere. */
export const syncRepairsMax = 3;

/** The sync of a segment, or of the directory that names it, failed; the host's error is the cause. */
export class SyncFailure extends Error {
  readonly open: OpenSegment;

  constructor(open: OpenSegment, cause: unknown) {
    super("sync failed", { cause });
    this.open = open;
  }
}
