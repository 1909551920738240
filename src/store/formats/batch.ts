import { assert } from "../../base/assert.ts";
import { crc32 } from "../../base/crc32.ts";

/**
 * One append to a segment: a header in multiples of 512 bytes, then the blocks it describes. Positions
 * and lengths are in units of 512 bytes from the start of the segment.
 *
 * | offset | size | name          | meaning                                                        |
 * | ------ | ---- | ------------- | -------------------------------------------------------------- |
 * | 0      | 4    | magic         | "KLPB"                                                         |
 * | 4      | 2    | version       | 1                                                              |
 * | 6      | 2    | headerUnits   | length of this header                                          |
 * | 8      | 8    | log           |                                                                |
 * | 16     | 4    | segment       | number within the log                                          |
 * | 20     | 4    | position      | where this batch begins                                        |
 * | 24     | 4    | previous      | crc of the batch before it, or of the segment header           |
 * | 28     | 4    | entryCount    |                                                                |
 * | 32     | 4    | blockCount    | blocks of 4,096 bytes that follow the header                   |
 * | 36     | 4    | syncedSegment | everything before (syncedSegment, syncedUnits) of this log was |
 * | 40     | 4    | syncedUnits   | known to be synced when this was written                       |
 * | 44     | 1    | codec         | 0: plain; others are refused                                   |
 * | 45     | 3    |               | zero                                                           |
 * | 48     | 4    | keyId         | reserved for encryption, zero                                  |
 * | 52     | 8    | salt          | reserved for encryption, zero                                  |
 * | 60     | 4    | crc           | CRC-32, begun at that of the store's id, of the whole header   |
 * |        |      |               | with this field zero                                           |
 * | 64     | 16·n | entries       | see below                                                      |
 * | …      | 4·m  | blockCrcs     | CRC-32 of each block, in order                                 |
 * | …      |      |               | zero up to a multiple of 512                                   |
 *
 * Entry: u32 low half of the first block's number, u16 high half, u16 kind (1 data, 2 hole, 3 zeros
 * that stay allocated), u32 number of blocks, u32 position of the first block if it is data, else 0.
 *
 * `previous` chains batches: a stale batch that stands behind a cut cannot continue what was
 * appended in the place of its predecessor. The store's id in `crc` makes sure that nothing a guest
 * writes can pass for a header.
 */
export const unitBytes = 512;
export const blockUnits = 8;
export const batchHeaderBytes = 64;
export const entryWords = 4;
const entryBytes = 16;
const magic = 0x42504c4b;
const version = 1;

export const entryKind = { data: 1, hole: 2, zero: 3 } as const;
export type EntryKind = (typeof entryKind)[keyof typeof entryKind];

export interface BatchEntry {
  kind: EntryKind;
  /** Number of the first block in the disk. */
  block: number;
  count: number;
}

export interface BatchPlace {
  log: number;
  segment: number;
  /** In units. */
  position: number;
  previous: number;
  syncedSegment: number;
  syncedUnits: number;
}

/** Blocks and entries a batch may hold: bounds its header, and what one torn write can void. */
export const batchBlocksMax = 4096;
export const batchEntriesMax = 4096;

export function batchHeaderUnits(entryCount: number, blockCount: number): number {
  return Math.ceil((batchHeaderBytes + entryBytes * entryCount + 4 * blockCount) / unitBytes);
}

/** CRC-32 of the store's id: where the crc of every batch header of that store begins. */
export function batchSeed(storeId: Uint8Array): number {
  return crc32(storeId);
}

/** The header, and its crc. `crcs` has the checksum of each data block, in order. */
export function encodeBatchHeader(
  place: BatchPlace,
  entries: readonly BatchEntry[],
  crcs: ArrayLike<number>,
  seed: number,
): { header: Buffer; crc: number } {
  const blockCount = crcs.length;
  const headerUnits = batchHeaderUnits(entries.length, blockCount);
  const header = Buffer.alloc(headerUnits * unitBytes);
  header.writeUInt32LE(magic, 0);
  header.writeUInt16LE(version, 4);
  header.writeUInt16LE(headerUnits, 6);
  writeU64(header, place.log, 8);
  header.writeUInt32LE(place.segment, 16);
  header.writeUInt32LE(place.position, 20);
  header.writeUInt32LE(place.previous, 24);
  header.writeUInt32LE(entries.length, 28);
  header.writeUInt32LE(blockCount, 32);
  header.writeUInt32LE(place.syncedSegment, 36);
  header.writeUInt32LE(place.syncedUnits, 40);
  let at = batchHeaderBytes;
  let position = place.position + headerUnits;
  for (const entry of entries) {
    writeEntry(header, at, entry, entry.kind === entryKind.data ? position : 0);
    if (entry.kind === entryKind.data) position += entry.count * blockUnits;
    at += entryBytes;
  }
  assert(position === place.position + headerUnits + blockCount * blockUnits);
  for (let index = 0; index < blockCount; index++, at += 4) {
    header.writeUInt32LE(crcs[index] as number, at);
  }
  const crc = crc32(header, seed);
  header.writeUInt32LE(crc, 60);
  return { header, crc };
}

export interface BatchHeader extends BatchPlace {
  headerUnits: number;
  entryCount: number;
  blockCount: number;
  crc: number;
}

/** The fixed part, if it can be one; its crc is not checked yet, for the whole header is needed. */
export function peekBatchHeader(bytes: Buffer): BatchHeader | undefined {
  if (bytes.length < batchHeaderBytes) return undefined;
  if (bytes.readUInt32LE(0) !== magic || bytes.readUInt16LE(4) !== version) return undefined;
  const headerUnits = bytes.readUInt16LE(6);
  const entryCount = bytes.readUInt32LE(28);
  const blockCount = bytes.readUInt32LE(32);
  if (entryCount > batchEntriesMax || blockCount > batchBlocksMax) return undefined;
  if (headerUnits !== batchHeaderUnits(entryCount, blockCount)) return undefined;
  if (bytes[44] !== 0 || bytes.readUInt32LE(48) !== 0) return undefined;
  const log = readU64(bytes, 8);
  if (!Number.isSafeInteger(log)) return undefined;
  return {
    log,
    segment: bytes.readUInt32LE(16),
    position: bytes.readUInt32LE(20),
    previous: bytes.readUInt32LE(24),
    syncedSegment: bytes.readUInt32LE(36),
    syncedUnits: bytes.readUInt32LE(40),
    headerUnits,
    entryCount,
    blockCount,
    crc: bytes.readUInt32LE(60),
  };
}

/** Checks a whole header against its crc, and that its entries add up. */
export function batchHeaderIsValid(bytes: Buffer, header: BatchHeader, seed: number): boolean {
  if (bytes.length !== header.headerUnits * unitBytes) return false;
  const zeroed = crc32(bytes.subarray(64), crc32(zero4, crc32(bytes.subarray(0, 60), seed)));
  if (zeroed !== header.crc) return false;
  let position = header.position + header.headerUnits;
  for (let index = 0; index < header.entryCount; index++) {
    const at = batchHeaderBytes + index * entryBytes;
    const kind = bytes.readUInt16LE(at + 6);
    if (kind < entryKind.data || kind > entryKind.zero) return false;
    if (kind !== entryKind.data) continue;
    if (bytes.readUInt32LE(at + 12) !== position) return false;
    position += bytes.readUInt32LE(at + 8) * blockUnits;
  }
  return position === header.position + header.headerUnits + header.blockCount * blockUnits;
}

/** Views of a valid header's entries (4 words each, as on disk) and block checksums, as bytes. */
export function batchTables(bytes: Buffer, header: BatchHeader): { entries: Buffer; crcs: Buffer } {
  const entriesEnd = batchHeaderBytes + header.entryCount * entryBytes;
  return {
    entries: bytes.subarray(batchHeaderBytes, entriesEnd),
    crcs: bytes.subarray(entriesEnd, entriesEnd + header.blockCount * 4),
  };
}

/** Words of an entry as they stand in summaries: low block, high block and kind, count, position. */
export interface PlacedEntry extends Omit<BatchEntry, "kind"> {
  /** Whoever wrote it may have known others than we do. */
  kind: number;
  /** Where its first block stands, in units. */
  position: number;
}

export function entryOfWords(words: Uint32Array, index: number): PlacedEntry {
  const entry = { kind: 0, block: 0, count: 0, position: 0 };
  readEntry(words, index, entry);
  return entry;
}

/** The same into an object that is there. */
export function readEntry(words: Uint32Array, index: number, entry: PlacedEntry): void {
  const at = index * entryWords;
  const second = words[at + 1] as number;
  entry.kind = second >>> 16;
  entry.block = (second & 0xffff) * 0x100000000 + (words[at] as number);
  entry.count = words[at + 2] as number;
  entry.position = words[at + 3] as number;
}

function writeEntry(target: Buffer, at: number, entry: BatchEntry, position: number): void {
  target.writeUInt32LE(entry.block >>> 0, at);
  target.writeUInt16LE(Math.floor(entry.block / 0x100000000), at + 4);
  target.writeUInt16LE(entry.kind, at + 6);
  target.writeUInt32LE(entry.count, at + 8);
  target.writeUInt32LE(position, at + 12);
}

export function writeU64(target: Buffer, value: number, at: number): void {
  target.writeUInt32LE(value >>> 0, at);
  target.writeUInt32LE(Math.floor(value / 0x100000000), at + 4);
}

/** Above 2^53 - 1 rounded: what is not a safe integer is not what was written. */
export function readU64(source: Buffer, at: number): number {
  return source.readUInt32LE(at + 4) * 0x100000000 + source.readUInt32LE(at);
}

const zero4 = Buffer.alloc(4);
