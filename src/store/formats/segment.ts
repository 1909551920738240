import { crc32 } from "../../base/crc32.ts";
import { KelpieError } from "../../base/errors.ts";
import { entryKind, entryWords, readU64, unitBytes, writeU64 } from "./batch.ts";
import { decodeFrame, encodeFrame, type FrameKind, frameType } from "./frame.ts";

/**
 * A segment as written: a header, batches (batch.ts), and once sealed a summary and a footer.
 *
 *   | header, 1 unit | batch | batch | … | summary, whole units | footer, 1 unit |
 *
 * Header:
 *
 * | offset | size | name             | meaning                                              |
 * | ------ | ---- | ---------------- | ---------------------------------------------------- |
 * | 0      | 4    | magic            | "KLPS"                                               |
 * | 4      | 2    | version          | 1                                                    |
 * | 6      | 2    |                  | zero                                                 |
 * | 8      | 8    | log              |                                                      |
 * | 16     | 4    | segment          | number within the log                                |
 * | 20     | 4    | continuesSegment | the segment that this one continues; 2^32-1: none    |
 * | 24     | 4    | continuesUnits   | and where its valid part ends; what follows is void  |
 * | 28     | 4    | previous         | crc of the last batch (or header) before that end    |
 * | 32     | 16   | storeId          |                                                      |
 * | 508    | 4    | crc              | CRC-32 of bytes 0 to 507                             |
 *
 * `continues…` makes a log one chain whatever happened: after a failed append or a failed sync the
 * next segment says how much of an earlier one it stands on, and segments between are void.
 *
 * Summary: a frame of type 4 whose payload is u32 entries, u32 blocks, then the entries and block
 * checksums of all batches as batch.ts lays them out. Recovery reads it instead of hopping headers.
 *
 * Footer: 0/4 magic "KLPE", 4/2 version 1, 8/8 log, 16/4 segment, 20/4 endUnits (where the batches
 * end and the summary begins), 24/4 summaryBytes, 28/4 crc of the last batch, 32/4 CRC-32 of the
 * summaryBytes of summary, 508/4 CRC-32 of 0..507. The summary does not say whose it is: in a file that
 * was written over, one of an earlier segment may stand in its place, whole.
 */
export const continuesNothing = 0xffffffff;
const headerMagic = 0x53504c4b;
const footerMagic = 0x45504c4b;
const version = 1;
const crcAt = 508;
const summaryKind: FrameKind = { type: frameType.summary, version: 1, what: "segment summary" };

export interface SegmentHeader {
  log: number;
  segment: number;
  continuesSegment: number;
  continuesUnits: number;
  previous: number;
  storeId: Uint8Array;
}

export function encodeSegmentHeader(header: SegmentHeader): { bytes: Buffer; crc: number } {
  const bytes = Buffer.alloc(unitBytes);
  bytes.writeUInt32LE(headerMagic, 0);
  bytes.writeUInt16LE(version, 4);
  writeU64(bytes, header.log, 8);
  bytes.writeUInt32LE(header.segment, 16);
  bytes.writeUInt32LE(header.continuesSegment, 20);
  bytes.writeUInt32LE(header.continuesUnits, 24);
  bytes.writeUInt32LE(header.previous, 28);
  bytes.set(header.storeId, 32);
  return { bytes, crc: seal(bytes) };
}

export function decodeSegmentHeader(bytes: Buffer): (SegmentHeader & { crc: number }) | undefined {
  if (!isSound(bytes, headerMagic)) return undefined;
  return {
    log: readU64(bytes, 8),
    segment: bytes.readUInt32LE(16),
    continuesSegment: bytes.readUInt32LE(20),
    continuesUnits: bytes.readUInt32LE(24),
    previous: bytes.readUInt32LE(28),
    storeId: bytes.subarray(32, 48),
    crc: bytes.readUInt32LE(crcAt),
  };
}

export interface SegmentFooter {
  log: number;
  segment: number;
  endUnits: number;
  summaryBytes: number;
  lastCrc: number;
  /** 0 of the first version 1 segments, whose seals do not say which summary is theirs. */
  summaryCrc: number;
}

export function encodeSegmentFooter(footer: SegmentFooter): Buffer {
  const bytes = Buffer.alloc(unitBytes);
  bytes.writeUInt32LE(footerMagic, 0);
  bytes.writeUInt16LE(version, 4);
  writeU64(bytes, footer.log, 8);
  bytes.writeUInt32LE(footer.segment, 16);
  bytes.writeUInt32LE(footer.endUnits, 20);
  bytes.writeUInt32LE(footer.summaryBytes, 24);
  bytes.writeUInt32LE(footer.lastCrc, 28);
  bytes.writeUInt32LE(footer.summaryCrc, 32);
  seal(bytes);
  return bytes;
}

export function decodeSegmentFooter(bytes: Buffer): SegmentFooter | undefined {
  if (!isSound(bytes, footerMagic)) return undefined;
  return {
    log: readU64(bytes, 8),
    segment: bytes.readUInt32LE(16),
    endUnits: bytes.readUInt32LE(20),
    summaryBytes: bytes.readUInt32LE(24),
    lastCrc: bytes.readUInt32LE(28),
    summaryCrc: bytes.readUInt32LE(32),
  };
}

/** What all batches of a segment wrote: entries as words of batch.ts, and each block's checksum. */
export interface Summary {
  entries: Uint32Array;
  crcs: Uint32Array;
}

/** Padded to whole units. */
export function encodeSummary(summary: Summary): { bytes: Buffer; summaryBytes: number } {
  const counts = Buffer.alloc(8);
  counts.writeUInt32LE(summary.entries.length / 4, 0);
  counts.writeUInt32LE(summary.crcs.length, 4);
  const payload = Buffer.concat([counts, bytesOf(summary.entries), bytesOf(summary.crcs)]);
  const frame = Buffer.concat(encodeFrame(summaryKind, payload));
  const padded = Buffer.alloc(Math.ceil(frame.length / unitBytes) * unitBytes);
  frame.copy(padded);
  return { bytes: padded, summaryBytes: padded.length };
}

export function decodeSummary(bytes: Uint8Array, object: string): Summary {
  const payload = decodeFrame(summaryKind, bytes, object);
  const counts = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const entryCount = payload.length < 8 ? -1 : counts.readUInt32LE(0);
  const blockCount = payload.length < 8 ? -1 : counts.readUInt32LE(4);
  if (payload.length !== 8 + entryCount * 16 + blockCount * 4) {
    throw new KelpieError("corrupt", `${object} does not have the length its counts say`);
  }
  const crcsAt = 8 + entryCount * 16;
  const entries = wordsOf(payload.subarray(8, crcsAt));
  if (dataBlocks(entries) !== blockCount) {
    throw new KelpieError("corrupt", `${object} has other blocks than its entries say`);
  }
  return { entries, crcs: wordsOf(payload.subarray(crcsAt)) };
}

/** What its readers walk through block by block; undefined if an entry is of a kind that is not known. */
function dataBlocks(entries: Uint32Array): number | undefined {
  let blocks = 0;
  for (let at = 0; at < entries.length; at += entryWords) {
    const kind = (entries[at + 1] as number) >>> 16;
    if (kind < entryKind.data || kind > entryKind.zero) return undefined;
    if (kind === entryKind.data) blocks += entries[at + 2] as number;
  }
  return blocks;
}

/** A copy as words: the bytes may stand at any alignment. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  const words = new Uint32Array(bytes.length / 4);
  new Uint8Array(words.buffer).set(bytes);
  return words;
}

export function bytesOf(words: Uint32Array): Buffer {
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}

function seal(bytes: Buffer): number {
  const crc = crc32(bytes.subarray(0, crcAt));
  bytes.writeUInt32LE(crc, crcAt);
  return crc;
}

function isSound(bytes: Buffer, magic: number): boolean {
  return (
    bytes.length === unitBytes &&
    bytes.readUInt32LE(0) === magic &&
    bytes.readUInt16LE(4) === version &&
    Number.isSafeInteger(readU64(bytes, 8)) &&
    bytes.readUInt32LE(crcAt) === crc32(bytes.subarray(0, crcAt))
  );
}
