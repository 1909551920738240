import { assert } from "../base/assert.ts";
import type { PointMap } from "./map/point-map.ts";

/**
 * One point of a family's history. A point with children is frozen: nothing changes its map any more.
 *
 * Points that hold a location (the place where a block was first written) are connected in the tree,
 * below the one that wrote it. So a block is needed as long as the owner of its segment maps it.
 */
export class Point {
  readonly id: number;
  parent: Point | undefined;
  readonly children = new Set<Point>();
  sizeBytes: number;
  /** Nobody can see it; kept while two or more points stand on it, and until its space is freed. */
  deleted = false;
  /** Its catalog record is not there yet: a snapshot or rollback is under way. */
  pending = false;
  map: PointMap;
  /** Blocks that do not read as a hole. */
  mappedBlocks = 0;
  /**
   * Blocks that only this point holds, as far as it can be had for nothing: exact with no child or
   * one; with more, deleting the point frees nothing, and this says 0.
   */
  exclusiveBlocks = 0;
  /** Who took over its blocks when it was purged. */
  heir: Point | undefined;

  constructor(id: number, sizeBytes: number, map: PointMap) {
    this.id = id;
    this.sizeBytes = sizeBytes;
    this.map = map;
  }

  attachTo(parent: Point): void {
    assert(this.parent === undefined && !parent.children.has(this));
    this.parent = parent;
    parent.children.add(this);
  }

  detach(): void {
    this.parent?.children.delete(this);
    this.parent = undefined;
  }
}

/** The point that answers for what `point` wrote. */
export function heirOf(point: Point): Point {
  let heir = point;
  while (heir.heir !== undefined) heir = heir.heir;
  return heir;
}
