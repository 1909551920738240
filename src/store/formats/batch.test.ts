import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { checkDamage } from "../../../test/support/damaged-bytes.ts";
import {
  type BatchEntry,
  type BatchPlace,
  batchEntriesMax,
  batchHeaderIsValid,
  batchHeaderUnits,
  batchSeed,
  batchTables,
  encodeBatchHeader,
  entryKind,
  entryOfWords,
  peekBatchHeader,
  readU64,
  writeU64,
} from "./batch.ts";
import { wordsOf } from "./segment.ts";

const seed = batchSeed(Buffer.alloc(16, 7));
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const u53 = fc.maxSafeNat();
const placeArbitrary: fc.Arbitrary<BatchPlace> = fc.record({
  log: u53,
  segment: u32,
  position: fc.integer({ min: 1, max: 2 ** 20 }),
  previous: u32,
  syncedSegment: u32,
  syncedUnits: u32,
});
const block = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const entryArbitrary: fc.Arbitrary<BatchEntry> = fc.oneof(
  fc.record({ kind: fc.constant(entryKind.data), block, count: fc.integer({ min: 1, max: 9 }) }),
  fc.record({ kind: fc.constantFrom(entryKind.hole, entryKind.zero), block, count: u32 }),
);

const goldenPlace: BatchPlace = {
  log: 0x100000002,
  segment: 3,
  position: 100,
  previous: 0xdeadbeef,
  syncedSegment: 2,
  syncedUnits: 77,
};
const goldenEntries: BatchEntry[] = [
  { kind: 1, block: 0x1_0000_0005, count: 2 },
  { kind: 2, block: 9, count: 70000 },
  { kind: 3, block: 1, count: 1 },
  { kind: 1, block: 7, count: 1 },
];
const goldenCrcs = [0x11111111, 0x22222222, 0x33333333];

test("a batch header has the bytes that the table says", () => {
  const { header, crc } = encodeBatchHeader(goldenPlace, goldenEntries, goldenCrcs, seed);
  assert.equal(header.length, 512);
  const golden = [
    "4b4c5042 0100 0100 0200000001000000 03000000 64000000 efbeadde 04000000 03000000",
    "02000000 4d000000 00 000000 00000000 0000000000000000 cc0f4e94",
    "05000000 0100 0100 02000000 65000000",
    "09000000 0000 0200 70110100 00000000",
    "01000000 0000 0300 01000000 00000000",
    "07000000 0000 0100 01000000 75000000",
    "11111111 22222222 33333333",
  ];
  const expected = Buffer.alloc(512);
  Buffer.from(golden.join("").replaceAll(" ", ""), "hex").copy(expected);
  assert.equal(header.toString("hex"), expected.toString("hex"));
  assert.equal(crc, 0x944e0fcc);
});

/** All that a reader takes out of a header. */
function decode(bytes: Buffer) {
  const header = peekBatchHeader(bytes);
  if (header === undefined || !batchHeaderIsValid(bytes, header, seed)) return undefined;
  const tables = batchTables(bytes, header);
  const words = wordsOf(tables.entries);
  const entries = Array.from({ length: header.entryCount }, (_, at) => entryOfWords(words, at));
  return { header, entries, crcs: [...wordsOf(tables.crcs)] };
}

test("a batch header gives back its place, entries and checksums", () => {
  fc.assert(
    fc.property(placeArbitrary, fc.array(entryArbitrary, { maxLength: 40 }), (place, entries) => {
      const blocks = entries.reduce((sum, { kind, count }) => sum + (kind === 1 ? count : 0), 0);
      const crcs = Array.from({ length: blocks }, (_, at) => (at * 2654435761) >>> 0);
      const { header, crc } = encodeBatchHeader(place, entries, crcs, seed);
      const found = decode(header);
      assert.ok(found !== undefined);
      const counts = { entryCount: entries.length, blockCount: blocks, crc };
      const headerUnits = batchHeaderUnits(entries.length, blocks);
      assert.deepEqual(found.header, { ...place, ...counts, headerUnits });
      assert.deepEqual(found.crcs, crcs);
      let position = place.position + headerUnits;
      for (const [at, entry] of entries.entries()) {
        const isData = entry.kind === entryKind.data;
        assert.deepEqual(found.entries[at], { ...entry, position: isData ? position : 0 });
        if (isData) position += entry.count * 8;
      }
    }),
  );
});

test("a damaged or truncated batch header is no batch header", () => {
  checkDamage(encodeBatchHeader(goldenPlace, goldenEntries, goldenCrcs, seed).header, decode, 600);
});

/** A header with a field changed and its checksum right again. */
function forged(change: (header: Buffer) => void): Buffer {
  const { header } = encodeBatchHeader(goldenPlace, goldenEntries, goldenCrcs, seed);
  header.writeUInt32LE(0, 60);
  change(header);
  header.writeUInt32LE(crc32(header, seed), 60);
  return header;
}

test("what another version may mean is not taken for a batch of this one", () => {
  assert.notEqual(decode(forged(() => {})), undefined);
  const changes: [string, (header: Buffer) => void][] = [
    ["version", (header) => header.writeUInt16LE(2, 4)],
    ["codec", (header) => header.writeUInt8(1, 44)],
    ["key", (header) => header.writeUInt32LE(1, 48)],
    ["kind of entry", (header) => header.writeUInt16LE(4, 64 + 6)],
    ["a log that would be rounded", (header) => header.writeUInt32LE(2 ** 21, 12)],
    ["kind 0", (header) => header.writeUInt16LE(0, 64 + 6)],
  ];
  for (const [what, change] of changes) assert.equal(decode(forged(change)), undefined, what);
});

test("a header that does not know the store's id is not one of its headers", () => {
  const { header } = encodeBatchHeader(goldenPlace, goldenEntries, goldenCrcs, seed + 1);
  assert.equal(decode(header), undefined);
});

test("counts and positions that do not add up are refused, however large", () => {
  const changes: [string, (header: Buffer) => void][] = [
    ["entries", (header) => header.writeUInt32LE(0xffffffff, 28)],
    ["entries beyond the limit", (header) => header.writeUInt32LE(batchEntriesMax + 1, 28)],
    ["blocks", (header) => header.writeUInt32LE(0xffffffff, 32)],
    ["one block more", (header) => header.writeUInt32LE(4, 32)],
    ["header units", (header) => header.writeUInt16LE(2, 6)],
    ["position of a block", (header) => header.writeUInt32LE(0x66, 64 + 12)],
    ["count of an entry", (header) => header.writeUInt32LE(0xffffffff, 64 + 8)],
  ];
  for (const [what, change] of changes) assert.equal(decode(forged(change)), undefined, what);
});

test("64-bit numbers come back as they were", () => {
  const bytes = Buffer.alloc(16);
  fc.assert(
    fc.property(u53, (value) => {
      writeU64(bytes, value, 3);
      assert.equal(readU64(bytes, 3), value);
    }),
  );
});
