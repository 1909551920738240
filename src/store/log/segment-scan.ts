import { crc32 } from "../../base/crc32.ts";
import type { ObjectReader } from "../backend/backend.ts";
import {
  batchBlocksMax,
  batchEntriesMax,
  batchHeaderIsValid,
  batchHeaderUnits,
  batchTables,
  blockUnits,
  peekBatchHeader,
  unitBytes,
} from "../formats/batch.ts";
import {
  decodeSegmentFooter,
  decodeSegmentHeader,
  decodeSummary,
  type SegmentHeader,
  type Summary,
  wordsOf,
} from "../formats/segment.ts";
import { SummaryBuilder } from "./summary-builder.ts";

/** The header of a segment file, or undefined if it has none that is whole. */
export async function readSegmentHeader(
  handle: ObjectReader,
): Promise<(SegmentHeader & { crc: number }) | undefined> {
  const bytes = Buffer.alloc(unitBytes);
  return (await handle.read(bytes, 0)) === unitBytes ? decodeSegmentHeader(bytes) : undefined;
}

export interface SealedSegment {
  summary: Summary;
  endUnits: number;
  lastCrc: number;
}

/** The summary of a sealed segment; undefined if it is not sealed, or the seal is torn. */
export async function readSeal(
  handle: ObjectReader,
  name: { log: number; segment: number },
): Promise<SealedSegment | undefined> {
  const size = await handle.size();
  if (size < 3 * unitBytes || size % unitBytes !== 0) return undefined;
  const footerBytes = Buffer.alloc(unitBytes);
  if ((await handle.read(footerBytes, size - unitBytes)) !== unitBytes) return undefined;
  const footer = decodeSegmentFooter(footerBytes);
  if (footer === undefined || footer.log !== name.log || footer.segment !== name.segment) {
    return undefined;
  }
  if (footer.endUnits * unitBytes + footer.summaryBytes + unitBytes !== size) return undefined;
  const bytes = Buffer.allocUnsafe(footer.summaryBytes);
  if ((await handle.read(bytes, footer.endUnits * unitBytes)) !== bytes.length) return undefined;
  // Power loss may have kept the footer and not the summary: then an older one may stand there.
  if (crc32(bytes) !== footer.summaryCrc) return undefined;
  try {
    const summary = decodeSummary(bytes, "summary");
    return { summary, endUnits: footer.endUnits, lastCrc: footer.lastCrc };
  } catch {
    // A torn seal is no damage: the batches themselves are scanned instead.
    return undefined;
  }
}

export interface ScanFrom {
  log: number;
  segment: number;
  /** Of the store: `batchSeed`. */
  seed: number;
  /** First batch to look at, in units, and the crc that stands before it. */
  units: number;
  previous: number;
  /** Batches that begin before it were known to be synced: their blocks are not read again. */
  verifyFromUnits: number;
  /** Where to stop at the latest; `Infinity` for no limit. */
  limitUnits: number;
}

export interface Scan {
  summary: Summary;
  /** Where the last whole batch ends, and its crc. */
  endUnits: number;
  lastCrc: number;
  /** The newest claim of a synced place among the headers read. */
  synced: { segment: number; units: number };
}

/** Follows the chain of batches until it ends or breaks. Never fails on what it reads. */
export async function scanBatches(handle: ObjectReader, from: ScanFrom): Promise<Scan> {
  const builder = new SummaryBuilder();
  const reader = new WindowReader(handle, await handle.size());
  let units = from.units;
  let previous = from.previous;
  const synced = { segment: 0, units: 0 };
  while (units < from.limitUnits) {
    const fixed = await reader.read(units * unitBytes, unitBytes);
    const header = fixed === undefined ? undefined : peekBatchHeader(fixed);
    if (header === undefined || header.log !== from.log || header.segment !== from.segment) break;
    if (header.position !== units || header.previous !== previous) break;
    const end = units + header.headerUnits + header.blockCount * blockUnits;
    if (end > from.limitUnits) break;
    const whole = await reader.read(units * unitBytes, header.headerUnits * unitBytes);
    if (whole === undefined || !batchHeaderIsValid(whole, header, from.seed)) break;
    const tables = batchTables(whole, header);
    const entries = wordsOf(tables.entries);
    const crcs = wordsOf(tables.crcs);
    if (!reader.holds(end * unitBytes)) break;
    if (units >= from.verifyFromUnits) {
      const blocksAt = (units + header.headerUnits) * unitBytes;
      if (!(await blocksAreWhole(handle, blocksAt, crcs))) break;
    }
    builder.addEntryWords(entries);
    builder.addCrcs(crcs);
    if (isLater(header.syncedSegment, header.syncedUnits, synced)) {
      synced.segment = header.syncedSegment;
      synced.units = header.syncedUnits;
    }
    previous = header.crc;
    units = end;
  }
  return { summary: builder.summary(), endUnits: units, lastCrc: previous, synced };
}

/**
 * What valid headers behind `from.units` say was synced, whether or not anything leads to them: there is
 * none after an ordinary end, and after damage they tell of it.
 */
export async function claimBeyond(
  handle: ObjectReader,
  from: Pick<ScanFrom, "log" | "segment" | "seed" | "units">,
): Promise<{ segment: number; units: number }> {
  const size = await handle.size();
  const reader = new WindowReader(handle, size);
  const synced = { segment: 0, units: 0 };
  for (let units = from.units; (units + 1) * unitBytes <= size; units++) {
    const fixed = await reader.read(units * unitBytes, unitBytes);
    const header = fixed === undefined ? undefined : peekBatchHeader(fixed);
    if (header === undefined || header.log !== from.log || header.segment !== from.segment)
      continue;
    if (header.position !== units) continue;
    const whole = await reader.read(units * unitBytes, header.headerUnits * unitBytes);
    if (whole === undefined || !batchHeaderIsValid(whole, header, from.seed)) continue;
    if (isLater(header.syncedSegment, header.syncedUnits, synced)) {
      synced.segment = header.syncedSegment;
      synced.units = header.syncedUnits;
    }
  }
  return synced;
}

export function isLater(
  segment: number,
  units: number,
  than: { segment: number; units: number },
): boolean {
  return segment > than.segment || (segment === than.segment && units > than.units);
}

async function blocksAreWhole(
  handle: ObjectReader,
  offset: number,
  crcs: Uint32Array,
): Promise<boolean> {
  const perRead = 256;
  for (let first = 0; first < crcs.length; first += perRead) {
    const count = Math.min(perRead, crcs.length - first);
    const bytes = Buffer.allocUnsafe(count * blockBytes);
    if ((await handle.read(bytes, offset + first * blockBytes)) !== bytes.length) return false;
    for (let index = 0; index < count; index++) {
      const block = bytes.subarray(index * blockBytes, (index + 1) * blockBytes);
      if (crc32(block) !== crcs[first + index]) return false;
    }
  }
  return true;
}

const blockBytes = blockUnits * unitBytes;
const headerUnitsMax = batchHeaderUnits(batchEntriesMax, batchBlocksMax);

/** Reads small pieces in ascending order out of larger reads. */
class WindowReader {
  readonly #handle: ObjectReader;
  readonly #size: number;
  readonly #window = Buffer.allocUnsafe(Math.max(256 * 1024, headerUnitsMax * unitBytes));
  #start = 0;
  #end = 0;

  constructor(handle: ObjectReader, size: number) {
    this.#handle = handle;
    this.#size = size;
  }

  holds(end: number): boolean {
    return end <= this.#size;
  }

  /** A view that is good until the next call. */
  async read(offset: number, length: number): Promise<Buffer | undefined> {
    if (offset + length > this.#size) return undefined;
    if (offset < this.#start || offset + length > this.#end) {
      const read = await this.#handle.read(this.#window, offset);
      this.#start = offset;
      this.#end = offset + read;
      if (read < length) return undefined;
    }
    return this.#window.subarray(offset - this.#start, offset - this.#start + length);
  }
}
