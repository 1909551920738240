import { KelpieError } from "../base/errors.ts";

/** What a snapshot has from elsewhere, when the history of a disk is copied. Milliseconds since 1970. */
export interface SnapshotHistory {
  snapId: number;
  takenMs: number;
  /** When it began, as a working VDI. */
  createdMs: number;
}

/** Ids only grow. `nextSnapId` is what the snapshot would get by itself. Throws "invalid". */
export function checkHistory(history: SnapshotHistory, nextSnapId: number): SnapshotHistory {
  if (history.snapId >= nextSnapId) return history;
  throw new KelpieError("invalid", `snapshot ${history.snapId}: the next one is ${nextSnapId}`);
}
