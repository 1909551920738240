import type { Note } from "./notes.ts";
import type { VidChoice } from "./objects/vids.ts";
import type { SnapshotHistory } from "./snapshot-history.ts";

/** What else is in the record of a snapshot. */
export interface Along {
  /** Snapshots that are deleted by it: their tags may be used again. */
  replacing?: readonly number[];
  /** Told the points that become the snapshots, in the order of the disks. */
  notes?: (points: readonly number[]) => Note[];
  /** For clients of Sheepdog: the tags may be numbers, and vids are given. It may still refuse. */
  vids?: (choice: VidChoice, of: { point: readonly number[]; tip: readonly number[] }) => void;
  /** Id and times that it has from elsewhere. */
  history?: SnapshotHistory;
}
