import { KelpieError } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Backend } from "./backend/backend.ts";
import type { Catalog } from "./catalog.ts";
import {
  type Checkpoint,
  encodeCheckpoint,
  type LogRow,
  type PointRow,
  type SegmentRow,
} from "./formats/checkpoint.ts";
import { catalogPrefix, checkpointKey, checkpointPrefix, parseNumbered } from "./keys.ts";
import type { LogWriter } from "./log/log-writer.ts";
import { MapWriter } from "./map/map-writer.ts";
import type { Root } from "./map/nodes.ts";
import type { Point } from "./point.ts";
import { listAll } from "./recovery.ts";
import type { StoreState } from "./state.ts";
import type { Uploads } from "./upload/uploads.ts";

export interface CheckpointComponents {
  state: StoreState;
  catalog: Catalog;
  backend: Backend;
  host: Host;
  /** The state of the layer above, as plain data. */
  saveRegistry: () => unknown;
  /** Runs its argument when no branch operation is under way. */
  whenStill: <T>(action: () => T) => Promise<T>;
  uploads?: Uploads | undefined;
  /** What is covered by a newer checkpoint stays for so long; 0 by default. */
  graceMs?: number | undefined;
}

interface Captured {
  roots: { row: PointRow; point: Point; root: Root }[];
  segments: SegmentRow[];
  logs: LogRow[];
  writers: { writer: LogWriter; segment: number; repairs: number; wasRepairing: boolean }[];
  records: number;
  registry: unknown;
  nextId: number;
  nextSegmentId: number;
}

/**
 * Writes checkpoints: the changed nodes of maps, then one object that says where everything stands.
 * The state is taken in one turn of the loop, between two batches of every log; from then on writers
 * copy what they change, and nothing waits.
 */
export class Checkpointer {
  readonly #components: CheckpointComponents;
  #number: number;
  /** Root references of the newest checkpoint, if it has all that the maps in memory stand on. */
  roots: number[] | undefined;
  /** Segments below it in each log, by log, are not needed for recovery by the newest checkpoint. */
  #floors: Map<number, number>;
  /** What each checkpoint of this process covered, and when, as far as the grace period needs it. */
  #covered: { atMs: number; records: number; checkpoint: number }[] = [];

  constructor(
    settings: { number: number; floors: Map<number, number> },
    components: CheckpointComponents,
  ) {
    this.#number = settings.number;
    this.#floors = settings.floors;
    this.#components = components;
  }

  get number(): number {
    return this.#number;
  }

  /** Whether recovery would still read the segment for its batches. */
  needsForReplay(log: number, segment: number): boolean {
    const floor = this.#floors.get(log);
    return floor === undefined || segment >= floor;
  }

  async write(): Promise<void> {
    const { nodes } = this.#components.state;
    try {
      await this.#write();
    } catch (error) {
      // What was taken is as dirty as before.
      nodes.dirtyBytes += nodes.storingBytes;
      throw error;
    } finally {
      nodes.storingBytes = 0;
    }
  }

  async #write(): Promise<void> {
    const { state, backend, host, whenStill, uploads } = this.#components;
    const { captured, floors } = await whenStill(() => ({
      captured: this.#capture(),
      floors: this.#captureFloors(),
    }));
    const writer = new MapWriter(
      { nextNumber: state.nextMap },
      { backend, nodes: state.nodes, timers: host.timers },
    );
    const points: PointRow[] = [];
    try {
      for (const { row, root } of captured.roots) {
        const reference = await writer.store(root);
        points.push([row[0], row[1], row[2], row[3], reference, row[5], row[6]]);
      }
      // From here on nodes in memory may stand where no checkpoint leads yet: no map may be cleaned.
      this.roots = undefined;
      await writer.finish();
    } finally {
      // A number once tried is not used again, whatever became of it.
      state.nextMap = writer.nextNumber;
    }
    for (const object of writer.objects) state.mapObjects.byNumber.set(object.number, object);
    // Durability: the maps must not name a batch that power loss could still cut off.
    for (const { writer: log, segment, repairs, wasRepairing } of captured.writers) {
      await log.settle();
      // Recovery does not look at what is before that one: it must be there, and not in tails.
      await log.upload?.settled(segment);
      // What was captured stands elsewhere now: the next checkpoint will have it.
      if (log.repairs !== repairs || wasRepairing) {
        throw new KelpieError("io", "a sync failed under the checkpoint");
      }
    }
    await uploads?.settled();
    await this.#publish(captured, points);
    this.#floors = floors;
    this.roots = points.map((row) => row[4]);
    await this.#removeOld(captured.records);
  }

  /** Forgets what a log needed that nothing will be appended to any more. */
  #captureFloors(): Map<number, number> {
    const { state } = this.#components;
    const floors = new Map<number, number>();
    for (const segment of state.segments.values()) floors.set(segment.log, Infinity);
    for (const log of state.logs.values()) {
      floors.set(log.log, log.writer?.appliedPlace.segment ?? 0);
    }
    return floors;
  }

  #capture(): Captured {
    const { state, catalog, saveRegistry } = this.#components;
    const roots: Captured["roots"] = [];
    for (const point of state.points.values()) {
      const parent = point.parent?.id ?? 0;
      const deleted = point.deleted ? 1 : 0;
      const { id, sizeBytes, mappedBlocks, exclusiveBlocks } = point;
      const row: PointRow = [id, parent, sizeBytes, deleted, 0, mappedBlocks, exclusiveBlocks];
      roots.push({ row, point, root: point.map.share() });
    }
    // Parents first: a chunk copied from one that was never stored learns where that one went.
    roots.sort((a, b) => a.point.id - b.point.id);
    const segments: SegmentRow[] = [];
    for (const s of state.segments.values()) {
      segments.push([
        s.id,
        s.log,
        s.number,
        s.ownerOf().id,
        s.blocks,
        s.live,
        s.endUnits,
        s.generation,
        s.bytes,
        s.bodyBlocks,
      ]);
    }
    const logs: LogRow[] = [];
    const writers: Captured["writers"] = [];
    for (const { log, owners, writer, covered } of state.logs.values()) {
      const owner = owners.at(-1)?.owner.id ?? 0;
      const place = writer?.appliedPlace ?? covered;
      logs.push([log, owner, place.segment, place.units, place.crc]);
      if (writer === undefined) continue;
      const { repairs, isRepairing: wasRepairing } = writer;
      writers.push({ writer, segment: place.segment, repairs, wasRepairing });
    }
    state.nodes.storingBytes = state.nodes.dirtyBytes;
    state.nodes.dirtyBytes = 0;
    return {
      roots,
      segments,
      logs,
      writers,
      records: catalog.last,
      registry: saveRegistry(),
      nextId: state.nextId,
      nextSegmentId: state.segments.nextId,
    };
  }

  async #publish(captured: Captured, points: PointRow[]): Promise<void> {
    const { state, backend, host } = this.#components;
    const number = this.#number + 1;
    const checkpoint: Checkpoint = {
      number,
      records: captured.records,
      timeMs: host.clock.nowMs(),
      nextId: captured.nextId,
      nextSegmentId: captured.nextSegmentId,
      nextMap: state.nextMap,
      points,
      segments: captured.segments,
      logs: captured.logs,
      maps: [...state.mapObjects.byNumber.values()].map((o) => [o.number, o.generation, o.bytes]),
      registry: captured.registry,
    };
    // A number once tried is not tried again with other content.
    this.#number = number;
    const outcome = await backend.putIfAbsent(checkpointKey(number), encodeCheckpoint(checkpoint));
    // Durability: from here on recovery begins with this checkpoint.
    if (outcome !== "created") {
      throw new KelpieError("io", `${checkpointKey(number)} could not be created: ${outcome}`);
    }
  }

  /**
   * Older checkpoints, and the records that this one holds. Somebody who was stopped for a while must
   * not find an old number free, and believe that it won.
   */
  async #removeOld(newest: number): Promise<void> {
    const { backend, host, graceMs = 0 } = this.#components;
    const nowMs = host.clock.monotonicMs();
    this.#covered.push({ atMs: nowMs, records: newest, checkpoint: this.#number });
    const old = this.#covered.findLast(({ atMs }) => nowMs - atMs >= graceMs);
    if (old === undefined) return;
    const { records, checkpoint } = old;
    this.#covered = this.#covered.filter(({ atMs }) => atMs >= old.atMs);
    for (const key of await listAll(backend, checkpointPrefix)) {
      const number = parseNumbered(checkpointPrefix, key)?.number;
      if (number !== undefined && number < checkpoint) await backend.delete(key);
    }
    for (const key of await listAll(backend, catalogPrefix)) {
      const number = parseNumbered(catalogPrefix, key)?.number;
      if (number !== undefined && number <= records) await backend.delete(key);
    }
  }
}
