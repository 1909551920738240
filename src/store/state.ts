import { assert } from "../base/assert.ts";
import { KelpieError } from "../base/errors.ts";
import type { CatalogRecord, PointChange } from "./formats/catalog-record.ts";
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
  owners: Assignment[];
  /** What is before it is in the maps of the checkpoint that recovery began with. */
  covered: { segment: number; units: number; crc: number };
  writer: LogWriter | undefined;
}

type AssignChange = Extract<PointChange, { type: "assign" }>;

/** Of a log's segments, from a number on, to a point. `order` counts assignments of all logs. */
export interface Assignment {
  from: number;
  owner: Point;
  order: number;
  /** What the point that was frozen there needs of the log; see the catalog record. */
  after?: { segment: number; units: number } | undefined;
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
  #assignments = 0;

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
          this.#assign(change, this.point(change.point));
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

  #assign({ log, from, after }: AssignChange, owner: Point): void {
    this.nextId = Math.max(this.nextId, log + 1);
    const state = this.logs.get(log);
    const assignment = { from, owner, order: ++this.#assignments, after };
    if (state !== undefined) state.owners.push(assignment);
    else {
      const covered = { segment: 0, units: 0, crc: 0 };
      this.logs.set(log, { log, owners: [assignment], covered, writer: undefined });
    }
  }
}

/** Who owns a segment of a log: the newest assignment that reaches it. */
export function assignmentAt(state: LogState, segment: number): Assignment {
  const found = state.owners.findLast(({ from }) => from <= segment) ?? state.owners[0];
  assert(found !== undefined, "a log without an owner");
  return found;
}

/** The counts of a point that has just come to stand on `parent`. */
export function inheritCounts(point: Point, parent: Point): void {
  point.mappedBlocks = parent.mappedBlocks;
  point.exclusiveBlocks = 0;
  // With its first child it shares everything; with a second one, what it says does not count.
  if (parent.children.size === 1) parent.exclusiveBlocks = 0;
}
