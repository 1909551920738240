import type { Store } from "../store/store.ts";
import type { StoreFigures } from "./server-shapes.ts";

/** What a store counts. Reads nothing from the disk; the figure for free space may be some time old. */
export function storeFiguresOf(store: Store): StoreFigures {
  const { state, cleaner, space, reader, catalog } = store;
  const logs = store.logTotals();
  const { usedBytes, liveBytes } = cleaner.totals();
  return {
    appends: logs.applied,
    appendedBytes: logs.appendedBytes,
    syncs: logs.syncs,
    flushes: logs.flushes,
    syncRepairs: logs.repairs,
    segments: state.segments.count,
    usedBytes,
    liveBytes,
    mapBytes: state.mapObjects.totalBytes,
    freeBytes: Math.max(0, space.freeBytes),
    reserveBytes: Math.round(space.reserveBytes),
    cleanedSegments: cleaner.cleaned,
    cleanedBytes: cleaner.freedBytes,
    deletedPoints: state.deletedPoints.size,
    points: state.points.size,
    mapCacheBytes: state.nodes.residentBytes,
    mapLoads: state.nodes.loads,
    segmentReads: reader.reads,
    catalogRecords: catalog.last,
  };
}
