/** What log writers count, for people to watch. */
export interface LogTotals {
  /** Batches handed to the system and applied, and their bytes. */
  applied: number;
  appendedBytes: number;
  syncs: number;
  flushes: number;
  repairs: number;
}

export function noTotals(): LogTotals {
  return { applied: 0, appendedBytes: 0, syncs: 0, flushes: 0, repairs: 0 };
}

export function addTotals(totals: LogTotals, more: Readonly<LogTotals>): void {
  totals.applied += more.applied;
  totals.appendedBytes += more.appendedBytes;
  totals.syncs += more.syncs;
  totals.flushes += more.flushes;
  totals.repairs += more.repairs;
}
