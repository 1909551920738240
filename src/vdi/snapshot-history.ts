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
  const { snapId, takenMs, createdMs } = history;
  if (snapId >= nextSnapId) return { snapId, takenMs, createdMs };
  throw new KelpieError("invalid", `snapshot ${snapId}: the next one is ${nextSnapId}`);
}
