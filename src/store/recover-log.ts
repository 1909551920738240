import { isKelpieError } from "../base/errors.ts";
import type { FileHandle, Files } from "../host/files.ts";
import type { Backend, ObjectReader } from "./backend/backend.ts";
import { batchSeed, entryWords, unitBytes } from "./formats/batch.ts";
import { continuesNothing, type SegmentHeader, type Summary } from "./formats/segment.ts";
import { logPrefix, parseNumbered, segmentKey } from "./keys.ts";
import {
  claimBeyond,
  isLater,
  readSeal,
  readSegmentHeader,
  scanBatches,
} from "./log/segment-scan.ts";
import { parentOf } from "./paths.ts";
import { pathOf } from "./segment-reader.ts";

/** What a segment holds beyond the checkpoint. */
export interface LogPiece {
  number: number;
  summary: Summary;
  /** Where the valid batches end. */
  endUnits: number;
  fileBytes: number;
}

export interface RecoveredLog {
  pieces: LogPiece[];
  /** Segments that were given up: not reachable from what is whole. */
  removed: number[];
  /** Of the pieces, those whose segment is a file of this machine. */
  local: Set<number>;
  /** Set when data that was known to be synced is gone: what, for people. */
  damage: string | undefined;
}

export interface LogStart {
  log: number;
  segment: number;
  units: number;
  crc: number;
}

interface Found {
  number: number;
  handle: ObjectReader;
  /** The same, if it is a file of this machine. Elsewhere it is whole and safe. */
  file: FileHandle | undefined;
  header: SegmentHeader & { crc: number };
}

/**
 * Reads what a log holds beyond the checkpoint, cuts the torn tail at the last whole batch, and makes
 * what is left durable: nothing that follows may count before it does. Doing it again after a crash in
 * the middle gives the same result.
 */
export async function recoverLog(
  start: LogStart,
  components: { backend: Backend; files: Files; acceptDamage: boolean },
): Promise<RecoveredLog> {
  const { backend, acceptDamage } = components;
  const numbers = await segmentNumbers(start, backend);
  const found = new Map<number, Found>();
  const local = new Set<number>();
  try {
    for (const number of numbers) {
      const { handle, file } = await openSegment(segmentKey(start.log, number), components);
      if (file !== undefined) local.add(number);
      const header = await readSegmentHeader(handle);
      const isSound = header?.log === start.log && header.segment === number;
      if (header !== undefined && isSound) found.set(number, { number, handle, file, header });
      else await handle.close();
    }
    const path = chainOf(start, found);
    await leaveOrphans(path, found);
    const { pieces, damage, synced } = await readChain(start, { path, found });
    const kept = new Set(pieces.map((piece) => piece.number));
    const removed = numbers.filter((number) => !kept.has(number) && number !== start.segment);
    // Damage is for a person to look at first: nothing is removed.
    if (damage === undefined || acceptDamage)
      await cut({ start, removed, pieces, found, synced, local }, components);
    return { pieces, removed, local, damage };
  } finally {
    for (const { handle } of found.values()) await handle.close();
  }
}

async function openSegment(
  key: string,
  { backend, files }: { backend: Backend; files: Files },
): Promise<{ handle: ObjectReader; file: FileHandle | undefined }> {
  try {
    const file = await files.open(pathOf(backend, key), { access: "write" });
    return { handle: file, file };
  } catch (error) {
    if (!isKelpieError(error, "not-found")) throw error;
    return { handle: await backend.open(key), file: undefined };
  }
}

async function segmentNumbers(start: LogStart, backend: Backend): Promise<number[]> {
  const prefix = logPrefix(start.log);
  const numbers: number[] = [];
  let after = segmentKey(start.log, start.segment).slice(0, -1);
  for (;;) {
    const keys = await backend.list(prefix, after);
    for (const key of keys) {
      const parsed = parseNumbered(prefix, key);
      if (parsed === undefined || parsed.generation !== 0) continue;
      if (parsed.number >= start.segment) numbers.push(parsed.number);
    }
    const last = keys.at(-1);
    if (last === undefined || keys.length < 1000) return numbers;
    after = last;
  }
}

/** The newest segment from which headers lead back to the start, and what is between. */
function chainOf(start: LogStart, found: Map<number, Found>): Found[] {
  const newestFirst = [...found.keys()].sort((a, b) => b - a);
  for (const newest of newestFirst) {
    const path: Found[] = [];
    for (let at = found.get(newest); at !== undefined; ) {
      path.unshift(at);
      if (at.number === start.segment) return path;
      const { continuesSegment } = at.header;
      if (continuesSegment === continuesNothing) {
        if (start.units <= 1) return path;
        break;
      }
      // The segment that the checkpoint ended in may be gone already, if nothing followed in it.
      if (continuesSegment === start.segment && !found.has(start.segment)) {
        if (at.header.continuesUnits <= start.units) return path;
        break;
      }
      at = found.get(continuesSegment);
    }
  }
  return [];
}

/**
 * Several segments are uploaded at once, so that one may be there and the one before it not. What it says
 * was synced was so on the machine that wrote it.
 */
async function leaveOrphans(path: readonly Found[], found: Map<number, Found>): Promise<void> {
  for (const at of [...found.values()]) {
    if (at.file !== undefined || path.includes(at)) continue;
    found.delete(at.number);
    await at.handle.close();
  }
}

async function readChain(
  start: LogStart,
  segments: { path: Found[]; found: Map<number, Found> },
): Promise<{ pieces: LogPiece[]; damage: string | undefined; synced: Place }> {
  const { path, found } = segments;
  const synced = await newestClaim(start, found);
  const pieces: LogPiece[] = [];
  for (let index = 0; index < path.length; index++) {
    const at = path[index] as Found;
    const limitUnits = path[index + 1]?.header.continuesUnits ?? Number.POSITIVE_INFINITY;
    const piece = await readPiece(start, at, { limitUnits, synced });
    pieces.push(piece);
    // What follows stands on all of this one.
    if (limitUnits !== Number.POSITIVE_INFINITY && piece.endUnits < limitUnits) break;
  }
  const last = pieces.at(-1);
  const end = last === undefined ? start : { segment: last.number, units: last.endUnits };
  if (!isLater(synced.segment, synced.units, end)) return { pieces, damage: undefined, synced };
  const key = segmentKey(start.log, end.segment);
  const damage = `${key} breaks off at ${end.units * unitBytes}, before data that had been synced`;
  return { pieces, damage, synced };
}

interface Place {
  segment: number;
  units: number;
}

/**
 * What the newest headers say was synced. It need not be read to be believed, nor be reachable: what was
 * synced once stays so, and a segment that is missing below leaves only this trace.
 */
async function newestClaim(start: LogStart, found: Map<number, Found>): Promise<Place> {
  for (const at of [...found.values()].sort((a, b) => b.number - a.number)) {
    const from = firstBatch(start, at);
    const seed = batchSeed(at.header.storeId);
    const scan = await scanBatches(at.handle, {
      log: start.log,
      segment: at.number,
      seed,
      ...from,
      verifyFromUnits: Number.POSITIVE_INFINITY,
      limitUnits: Number.POSITIVE_INFINITY,
    });
    const beyond = await claimBeyond(at.handle, {
      log: start.log,
      segment: at.number,
      seed,
      units: scan.endUnits,
    });
    const { synced } = scan;
    const newest = isLater(beyond.segment, beyond.units, synced) ? beyond : synced;
    if (newest.units > 0) return newest;
  }
  return { segment: 0, units: 0 };
}

function firstBatch(start: LogStart, at: Found): { units: number; previous: number } {
  return at.number === start.segment && start.units > 1
    ? { units: start.units, previous: start.crc }
    : { units: 1, previous: at.header.crc };
}

async function readPiece(
  start: LogStart,
  at: Found,
  bounds: { limitUnits: number; synced: Place },
): Promise<LogPiece> {
  const from = firstBatch(start, at);
  const { limitUnits, synced } = bounds;
  const fileBytes = await at.handle.size();
  const name = { log: start.log, segment: at.number };
  const isSynced = at.number < synced.segment || at.file === undefined;
  if (isSynced && from.units === 1) {
    const seal = await readSeal(at.handle, name);
    if (seal !== undefined && (seal.endUnits === limitUnits || limitUnits === Infinity)) {
      return { number: at.number, summary: seal.summary, endUnits: seal.endUnits, fileBytes };
    }
  }
  const scan = await scanBatches(at.handle, {
    ...name,
    seed: batchSeed(at.header.storeId),
    ...from,
    verifyFromUnits: isSynced ? Infinity : at.number === synced.segment ? synced.units : 0,
    limitUnits,
  });
  return { number: at.number, summary: scan.summary, endUnits: scan.endUnits, fileBytes };
}

/**
 * Removes what is not reachable, newest first, cuts the last segment at its last whole batch, and syncs
 * all of it. A crash in between leaves less to do, never a gap.
 */
async function cut(
  what: {
    start: LogStart;
    removed: number[];
    pieces: LogPiece[];
    found: Map<number, Found>;
    synced: Place;
    local: Set<number>;
  },
  components: { backend: Backend; files: Files },
): Promise<void> {
  const { start, removed, pieces, found, synced, local } = what;
  const { backend, files } = components;
  for (const number of [...removed].sort((a, b) => b - a)) {
    await backend.delete(segmentKey(start.log, number));
  }
  let isTouched = removed.length > 0;
  for (const piece of pieces) {
    const handle = found.get(piece.number)?.file;
    if (handle === undefined) continue;
    if (piece === pieces.at(-1)) await cutTail(handle, start.log, piece);
    else if (isSynced(start, piece, synced)) continue;
    await writeAgain(handle, unsyncedUnits(start, piece, synced));
    // Durability: acknowledged writes may so far be in the page cache only, and the next log begins.
    await handle.sync();
    isTouched = true;
  }
  if (isTouched && local.size > 0) {
    const someKey = segmentKey(start.log, 0);
    await files.syncDirectory(parentOf(pathOf(backend, someKey)));
  }
}

/** What stands behind the last whole batch goes, unless it is the segment's seal. */
async function cutTail(handle: FileHandle, log: number, piece: LogPiece): Promise<void> {
  const sealed = await readSeal(handle, { log, segment: piece.number });
  const bytes = piece.endUnits * unitBytes;
  if (sealed?.endUnits === piece.endUnits || piece.fileBytes <= bytes) return;
  await handle.truncate(bytes);
  piece.fileBytes = bytes;
}

function isSynced(start: LogStart, piece: LogPiece, synced: Place): boolean {
  const { from, to } = unsyncedUnits(start, piece, synced);
  return from >= to;
}

/** What of a piece nothing says was synced, in units. */
function unsyncedUnits(
  start: LogStart,
  piece: LogPiece,
  synced: Place,
): { from: number; to: number } {
  const covered = piece.number === start.segment && start.units > 1 ? start.units : 0;
  if (piece.number < synced.segment) return { from: piece.endUnits, to: piece.endUnits };
  const known = piece.number === synced.segment ? synced.units : 0;
  return { from: Math.max(covered, known), to: piece.endUnits };
}

/**
 * Writes what stands there once more. If a sync of it failed in a process that is gone, the system holds
 * it in memory, shows it to everybody, and would never write it: a sync alone would succeed and do nothing.
 */
async function writeAgain(handle: FileHandle, units: { from: number; to: number }): Promise<void> {
  const end = units.to * unitBytes;
  for (let offset = units.from * unitBytes; offset < end; offset += windowBytes) {
    const bytes = Buffer.allocUnsafe(Math.min(windowBytes, end - offset));
    const read = await handle.read(bytes, offset);
    await handle.write([bytes.subarray(0, read)], offset);
  }
}

const windowBytes = 2 ** 20;

export function entryCount(summary: Summary): number {
  return summary.entries.length / entryWords;
}
