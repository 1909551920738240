import { assert } from "../base/assert.ts";
import { KelpieError } from "../base/errors.ts";
import type { CatalogRecord } from "./formats/catalog-record.ts";
import type { LogWriter } from "./log/log-writer.ts";
import type { MapNodes } from "./map/map-nodes.ts";
import type { MapObjects } from "./map/map-objects.ts";
import { PointMap } from "./map/point-map.ts";
import { Point } from "./point.ts";
import type { SegmentTable } from "./segment.ts";

/** A log that may get further segments, or has some that no checkpoint covers. */
export interface LogState {
  log: number;
  /** Segments from `from` on belong to `owner`; the last one counts for what comes. */
  owners: { from: number; owner: Point }[];
  /** What is before it is in the maps of the checkpoint that recovery began with. */
  covered: { segment: number; units: number; crc: number };
  writer: LogWriter | undefined;
}

/** Everything a store knows, as the catalog and the logs made it. */
export class StoreState {
  readonly points = new Map<number, Point>();
  readonly logs = new Map<number, LogState>();
  /** Points that nobody can see any more and that are not purged yet. */
  readonly deletedPoints = new Set<Point>();
  /** Points whose record is on its way, so that it finds what was prepared for it. */
  readonly pendingPoints = new Map<number, Point>();
  readonly segments: SegmentTable;
  readonly nodes: MapNodes;
  readonly mapObjects: MapObjects;
  /** Next number for a point or log. */
  nextId = 1;
  nextMap = 1;

  constructor(parts: { segments: SegmentTable; nodes: MapNodes; mapObjects: MapObjects }) {
    this.segments = parts.segments;
    this.nodes = parts.nodes;
    this.mapObjects = parts.mapObjects;
  }

  allocateId(): number {
    return this.nextId++;
  }

  point(id: number): Point {
    const point = this.points.get(id);
    if (point === undefined) throw new KelpieError("corrupt", `point ${id} is not known`);
    return point;
  }

  /** A point with its parent's map as it now is. The parent is frozen from here on. */
  makePoint(id: number, sizeBytes: number, parent: Point | undefined): Point {
    const map = new PointMap(this.nodes, parent?.map.share());
    const point = new Point(id, sizeBytes, map);
    if (parent !== undefined) {
      point.attachTo(parent);
      inheritCounts(point, parent);
    }
    return point;
  }

  apply(record: CatalogRecord): void {
    for (const change of record.changes) {
      switch (change.type) {
        case "point": {
          const parent = change.parent === 0 ? undefined : this.point(change.parent);
          const point =
            this.pendingPoints.get(change.id) ??
            this.makePoint(change.id, change.sizeBytes, parent);
          this.pendingPoints.delete(change.id);
          point.pending = false;
          this.points.set(change.id, point);
          this.nextId = Math.max(this.nextId, change.id + 1);
          break;
        }
        case "assign":
          this.#assign(change.log, change.from, this.point(change.point));
          break;
        case "resize":
          this.point(change.id).sizeBytes = change.sizeBytes;
          break;
        case "delete":
          this.markDeleted(this.point(change.id));
          break;
      }
    }
  }

  markDeleted(point: Point): void {
    point.deleted = true;
    this.deletedPoints.add(point);
  }

  #assign(log: number, from: number, owner: Point): void {
    this.nextId = Math.max(this.nextId, log + 1);
    const state = this.logs.get(log);
    if (state !== undefined) state.owners.push({ from, owner });
    else {
      const covered = { segment: 0, units: 0, crc: 0 };
      this.logs.set(log, { log, owners: [{ from, owner }], covered, writer: undefined });
    }
  }
}

/** Who owns a segment of a log: the newest assignment that reaches it. */
export function ownerAt(state: LogState, segment: number): Point {
  for (let index = state.owners.length - 1; index >= 0; index--) {
    const { from, owner } = state.owners[index] as { from: number; owner: Point };
    if (from <= segment) return owner;
  }
  const first = state.owners[0];
  assert(first !== undefined, "a log without an owner");
  return first.owner;
}

/** The counts of a point that has just come to stand on `parent`. */
export function inheritCounts(point: Point, parent: Point): void {
  point.mappedBlocks = parent.mappedBlocks;
  point.exclusiveBlocks = 0;
  // With its first child it shares everything; with a second one, what it says does not count.
  if (parent.children.size === 1) parent.exclusiveBlocks = 0;
}
