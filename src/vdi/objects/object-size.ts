import type { Point } from "../../store/point.ts";
import type { Vid } from "./vid-table.ts";

/** Data objects of a disk that is not a hyper volume. */
export const arrayObjectsMax = 2 ** 20;
/** Objects of a hyper volume: an index has 32 bits. */
export const treeObjectsMax = 2 ** 32;

/** Of a B-tree node, and of a ledger, whatever the objects of the disk have. */
export const treeNodeBytes = 4 * 2 ** 20;

export function objectBytes(entry: { blockSizeShift: number }): number {
  return 2 ** entry.blockSizeShift;
}

/** Objects that a disk of that size has; the last one may reach beyond its end. */
export function objectCount(point: Pick<Point, "sizeBytes">, entry: Vid): number {
  const max = entry.storePolicy === 0 ? arrayObjectsMax : treeObjectsMax;
  return Math.min(Math.ceil(point.sizeBytes / objectBytes(entry)), max);
}
