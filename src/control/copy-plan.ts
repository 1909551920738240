import type { PointEntry } from "../sheepdog/client-points.ts";

/** How the working VDI of the copy comes to have what the point stands on. */
export type CopyStart = "create" | "clone" | "continue" | "rollback" | "replace";

/** One point of the original, in the order in which the copy gets them. */
export interface CopyStep {
  point: PointEntry;
  start: CopyStart;
  /** The point whose content is there at the start, copied before; undefined: none, it is empty. */
  basis: PointEntry | undefined;
}

/**
 * The order in which points are copied: what one stands on comes first, and those of a name by snap id, as
 * they came to be. Where the original stands on something deleted, or on a disk that is not copied, the
 * copy goes on from the point before, and shares with that what is the same.
 */
export function planCopy(points: readonly PointEntry[]): CopyStep[] {
  const waiting = new Map<string, PointEntry[]>();
  for (const point of points.toSorted((a, b) => a.snapId - b.snapId)) {
    const list = waiting.get(point.name);
    if (list === undefined) waiting.set(point.name, [point]);
    else list.push(point);
  }
  const byVid = new Map(points.map((point) => [point.vid, point]));
  const done = new Set<number>();
  const last = new Map<string, PointEntry>();
  const steps: CopyStep[] = [];
  const take = (point: PointEntry, base: PointEntry | undefined): void => {
    steps.push(stepOf(point, base, last.get(point.name)));
    done.add(point.vid);
    last.set(point.name, point);
    waiting.get(point.name)?.shift();
  };
  while (steps.length < points.length) {
    const before = steps.length;
    for (const list of waiting.values()) {
      for (let point = list[0]; point !== undefined; point = list[0]) {
        const base = byVid.get(point.parent?.vid ?? 0);
        if (base !== undefined && !done.has(base.vid)) break;
        take(point, base);
      }
    }
    // Names that stand on each other crosswise: one of them has to begin with nothing.
    const stuck = [...waiting.values()].find((list) => list.length > 0)?.[0];
    if (steps.length === before && stuck !== undefined) take(stuck, undefined);
  }
  return steps;
}

function stepOf(
  point: PointEntry,
  base: PointEntry | undefined,
  last: PointEntry | undefined,
): CopyStep {
  if (last === undefined) {
    return { point, start: base === undefined ? "create" : "clone", basis: base };
  }
  if (base === undefined || base === last) return { point, start: "continue", basis: last };
  return { point, start: base.name === point.name ? "rollback" : "replace", basis: base };
}
