import { KelpieError } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Backend } from "./backend/backend.ts";
import { entryKind, entryWords, readEntry } from "./formats/batch.ts";
import { type CatalogRecord, decodeCatalogRecord } from "./formats/catalog-record.ts";
import { assertSound, type Checkpoint, decodeCheckpoint } from "./formats/checkpoint.ts";
import { chunkBlocks } from "./formats/map-node.ts";
import {
  catalogKey,
  catalogPrefix,
  checkpointPrefix,
  mapKey,
  mapsPrefix,
  parseNumbered,
} from "./keys.ts";
import { isLater } from "./log/segment-scan.ts";
import { Root } from "./map/nodes.ts";
import { PointMap } from "./map/point-map.ts";
import { Point } from "./point.ts";
import { type LogPiece, type RecoveredLog, recoverLog } from "./recover-log.ts";
import { holeId, Segment, zeroId } from "./segment.ts";
import { assignmentAt, inheritCounts, type LogState, type StoreState } from "./state.ts";
import { applyData, applyZeros } from "./tip.ts";
import type { Uploads } from "./upload/uploads.ts";

export interface Recovery {
  /** Number of the checkpoint it began with, and of the newest record. */
  checkpoint: number;
  lastRecord: number;
  /** By log, the first segment that recovery by this checkpoint reads; logs it does not know are absent. */
  floors: Map<number, number>;
  /** The layer above: its state at the checkpoint, and the records since. */
  registry: unknown;
  records: CatalogRecord[];
  /** What had to be read again; 0 after a clean stop. */
  replayedEntries: number;
  /** Snapshots that lack something, because it was lost with the machine that wrote it. */
  incomplete: number[];
}

export interface RecoveryComponents {
  backend: Backend;
  host: Host;
  uploads?: Uploads | undefined;
  acceptDamage: boolean;
}

/** Brings `state`, empty, to where the store stood. */
export async function recover(
  state: StoreState,
  components: RecoveryComponents,
): Promise<Recovery> {
  const { backend } = components;
  const checkpoint = await readNewestCheckpoint(backend);
  if (checkpoint !== undefined) loadCheckpoint(state, checkpoint);
  const records = await readRecords(backend, checkpoint?.records ?? 0);
  const known = new Set(state.points.keys());
  for (const record of records) state.apply(record);
  await settleMapObjects(state, backend);
  const recovery: Recovery = {
    checkpoint: checkpoint?.number ?? 0,
    lastRecord: records.at(-1)?.number ?? checkpoint?.records ?? 0,
    floors: floorsOf(checkpoint),
    registry: checkpoint?.registry,
    records,
    replayedEntries: 0,
    incomplete: [],
  };
  await replayLogs(state, components, { recovery, known });
  state.logs.clear();
  return recovery;
}

async function readNewestCheckpoint(backend: Backend): Promise<Checkpoint | undefined> {
  const keys = await listAll(backend, checkpointPrefix);
  const newest = keys.at(-1);
  if (newest === undefined) return undefined;
  const checkpoint = decodeCheckpoint(await backend.get(newest), newest);
  assertSound(checkpoint, newest);
  return checkpoint;
}

function floorsOf(checkpoint: Checkpoint | undefined): Map<number, number> {
  const floors = new Map<number, number>();
  for (const row of checkpoint?.segments ?? []) floors.set(row[1], Number.POSITIVE_INFINITY);
  for (const row of checkpoint?.logs ?? []) floors.set(row[0], row[2]);
  return floors;
}

async function readRecords(backend: Backend, after: number): Promise<CatalogRecord[]> {
  const records: CatalogRecord[] = [];
  let expected = after + 1;
  for (const key of await listAll(backend, catalogPrefix, catalogKey(after))) {
    const record = decodeCatalogRecord(await backend.get(key), key);
    if (record.number !== expected || parseNumbered(catalogPrefix, key)?.number !== expected) {
      throw new KelpieError("corrupt", `${catalogKey(expected)} is missing`, {
        remedy: "Restore it from a backup; without it the store cannot be opened as it was.",
      });
    }
    records.push(record);
    expected++;
  }
  return records;
}

export async function listAll(backend: Backend, prefix: string, after?: string): Promise<string[]> {
  const all: string[] = [];
  for (let from = after; ; from = all.at(-1)) {
    const page = await backend.list(prefix, from);
    all.push(...page);
    if (page.length < 1000) return all;
  }
}

function loadCheckpoint(state: StoreState, checkpoint: Checkpoint): void {
  state.nextId = checkpoint.nextId;
  state.nextMap = checkpoint.nextMap;
  for (const [id, , sizeBytes, deleted, root, mapped, exclusive] of checkpoint.points) {
    const pages = root === 0 ? [] : undefined;
    const map = new PointMap(state.nodes, new Root(0, root, pages));
    const point = new Point(id, sizeBytes, map);
    if (deleted === 1) state.markDeleted(point);
    point.mappedBlocks = mapped;
    point.exclusiveBlocks = exclusive;
    state.points.set(id, point);
  }
  for (const [id, parent] of checkpoint.points) {
    if (parent !== 0) state.point(id).attachTo(state.point(parent));
  }
  // Owner of dead segments whose point is purged: it maps nothing.
  const nobody = new Point(0, 0, new PointMap(state.nodes));
  for (const row of checkpoint.segments) {
    const [id, log, number, ownerId, blocks, live, endUnits, generation, bytes, bodyBlocks] = row;
    const owner = live === 0 ? (state.points.get(ownerId) ?? nobody) : state.point(ownerId);
    const segment = new Segment(id, { log, number, owner });
    Object.assign(segment, { blocks, live, endUnits, generation, bytes, bodyBlocks, sealed: true });
    state.segments.add(segment);
  }
  state.segments.nextId = Math.max(state.segments.nextId, checkpoint.nextSegmentId);
  for (const [log, point, segment, units, crc] of checkpoint.logs) {
    const owners = [{ from: 0, owner: state.point(point), order: 0 }];
    const covered = { segment, units, crc };
    state.logs.set(log, { log, owners, covered, writer: undefined });
  }
  for (const [number, generation, bytes] of checkpoint.maps) {
    state.mapObjects.byNumber.set(number, { number, generation, bytes });
  }
}

/**
 * Finds the body that each map object has now, for it may have been cleaned after the checkpoint, and
 * removes what no checkpoint names. Numbers that an unfinished checkpoint used are not used again.
 */
async function settleMapObjects(state: StoreState, backend: Backend): Promise<void> {
  const generations = new Map<number, number[]>();
  for (const key of await listAll(backend, mapsPrefix)) {
    const parsed = parseNumbered(mapsPrefix, key);
    if (parsed === undefined) continue;
    const { number, generation } = parsed;
    state.nextMap = Math.max(state.nextMap, number + 1);
    generations.set(number, [...(generations.get(number) ?? []), generation]);
  }
  for (const [number, found] of generations) {
    const object = state.mapObjects.byNumber.get(number);
    if (object !== undefined) object.generation = currentGeneration(object.generation, found);
    for (const generation of found) {
      if (generation !== object?.generation) await backend.delete(mapKey(number, generation));
    }
  }
}

/** Of the bodies found, the one that counts: the one that is known, else the newest. */
export function currentGeneration(known: number, found: readonly number[]): number {
  return found.includes(known) ? known : Math.max(...found);
}

interface Replay {
  recovery: Recovery;
  /** Points of the checkpoint: they have their maps. */
  known: Set<number>;
}

async function replayLogs(
  state: StoreState,
  components: RecoveryComponents,
  replay: Replay,
): Promise<void> {
  const { backend, host, uploads, acceptDamage } = components;
  const pieces = new Map<Point, { order: number; log: number; piece: LogPiece }[]>();
  for (const log of state.logs.values()) {
    const start = { log: log.log, ...log.covered };
    await uploads?.restore(start);
    const recovered = await recoverLog(start, { backend, files: host.files, acceptDamage });
    for (const piece of recovered.pieces) {
      const { owner, order } = assignmentAt(log, piece.number);
      const list = pieces.get(owner) ?? [];
      pieces.set(owner, list);
      list.push({ order, log: log.log, piece });
    }
    if (recovered.damage !== undefined && !acceptDamage) {
      throw new KelpieError("corrupt", recovered.damage, {
        remedy: "`kelpie store check --repair` goes on with what is left before the damage.",
      });
    }
    replay.recovery.incomplete.push(...incompleteIn(log, recovered));
    await uploads?.recovered(start, recovered);
  }
  // A point's parent has a smaller number, and was frozen before the point began.
  for (const point of [...state.points.values()].sort((a, b) => a.id - b.id)) {
    if (!replay.known.has(point.id) && point.parent !== undefined) {
      point.map = new PointMap(state.nodes, point.parent.map.share());
      inheritCounts(point, point.parent);
    }
    // A point may have been written through several logs: what was assigned later was written later.
    const own = (pieces.get(point) ?? []).sort(
      (a, b) => a.order - b.order || a.piece.number - b.piece.number,
    );
    for (const { log, piece } of own) {
      replay.recovery.replayedEntries += await replayPiece(state, point, { log, piece });
    }
  }
}

/** Points that were frozen at cuts which the log does not reach. */
function incompleteIn(log: LogState, { pieces }: RecoveredLog): number[] {
  const last = pieces.at(-1);
  const { segment, units } =
    last === undefined ? log.covered : { segment: last.number, units: last.endUnits };
  return log.owners.flatMap(({ after, owner }) => {
    if (after === undefined || !isLater(after.segment, after.units, { segment, units })) return [];
    return owner.parent === undefined ? [] : [owner.parent.id];
  });
}

async function replayPiece(
  state: StoreState,
  point: Point,
  from: { log: number; piece: LogPiece },
): Promise<number> {
  const { log, piece } = from;
  const segment =
    state.segments.at(log, piece.number) ??
    state.segments.create({ log, number: piece.number, owner: point });
  segment.sealed = true;
  segment.endUnits = piece.endUnits;
  segment.bytes = piece.fileBytes;
  const { entries, crcs } = piece.summary;
  const { segments } = state;
  const count = entries.length / entryWords;
  // There may be millions of entries: one object for all of them.
  const entry = { kind: 0, block: 0, count: 0, position: 0, crcs };
  const place = { segment, position: 0, crcsFrom: 0, segments };
  let crcsFrom = 0;
  for (let index = 0; index < count; index++) {
    readEntry(entries, index, entry);
    const loading = ensureLoaded(point.map, entry);
    if (loading !== undefined) await loading;
    if (entry.kind === entryKind.data) {
      place.position = entry.position;
      place.crcsFrom = crcsFrom;
      crcsFrom += entry.count;
      applyData(point, entry, place);
    } else {
      const id = entry.kind === entryKind.zero ? zeroId : holeId;
      applyZeros(point, entry, { id, segments });
    }
  }
  return count;
}

/** Not awaited when there is nothing to load: there may be millions of entries. */
function ensureLoaded(
  map: PointMap,
  entry: { block: number; count: number },
): Promise<void> | undefined {
  const last = Math.floor((entry.block + entry.count - 1) / chunkBlocks);
  for (let index = Math.floor(entry.block / chunkBlocks); index <= last; index++) {
    if (map.lookup(index) === "absent") {
      return map.load(index).then(() => ensureLoaded(map, entry));
    }
  }
  return undefined;
}
