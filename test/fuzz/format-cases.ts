import type { SeededRandom } from "../../sim/random.ts";
import * as batch from "../../src/store/formats/batch.ts";
import * as body from "../../src/store/formats/body.ts";
import {
  decodeCatalogRecord,
  encodeCatalogRecord,
} from "../../src/store/formats/catalog-record.ts";
import { decodeCheckpoint, encodeCheckpoint } from "../../src/store/formats/checkpoint.ts";
import { decodeIdentity, encodeIdentity } from "../../src/store/formats/identity.ts";
import * as node from "../../src/store/formats/map-node.ts";
import * as segment from "../../src/store/formats/segment.ts";
import { type Mend, mendBatch, mendFrame, mendNode, mendUnit } from "./forge.ts";

/** A structure on disk: some that are right, what reads it, and how to write again what was read. */
export interface FormatCase {
  example(random: SeededRandom): Uint8Array;
  mend: Mend;
  /** Undefined, or an error, for what is refused. */
  decode(bytes: Buffer): unknown;
  /** Of what `decode` gave. */
  encode(decoded: never): Uint8Array;
}

const seed = batch.batchSeed(Buffer.alloc(16, 7));
const u32 = (random: SeededRandom) => random.below(2 ** 32);
const leafOf = { leaf: 1, index: 81 };

/** JSON may say -0, and never does. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

interface DecodedBatch {
  place: batch.BatchPlace;
  entries: batch.BatchEntry[];
  crcs: Uint32Array;
}

export const formatCases: Record<string, FormatCase> = {
  "a batch header": {
    example(random) {
      const entries: batch.BatchEntry[] = Array.from({ length: random.below(9) }, () => ({
        kind: (1 + random.below(3)) as batch.EntryKind,
        block: random.below(2 ** 32) * (1 + random.below(2 ** 16)),
        count: 1 + random.below(5),
      }));
      const blocks = entries.reduce((sum, { kind, count }) => sum + (kind === 1 ? count : 0), 0);
      const place = { log: u32(random), segment: 1, position: 1 + random.below(999), previous: 5 };
      const synced = { syncedSegment: 1, syncedUnits: 9 };
      const crcs = Array.from({ length: blocks }, () => u32(random));
      return batch.encodeBatchHeader({ ...place, ...synced }, entries, crcs, seed).header;
    },
    mend: mendBatch(seed),
    decode(bytes): DecodedBatch | undefined {
      const header = batch.peekBatchHeader(bytes);
      if (header === undefined || !batch.batchHeaderIsValid(bytes, header, seed)) return undefined;
      const tables = batch.batchTables(bytes, header);
      const words = segment.wordsOf(tables.entries);
      const entries = Array.from({ length: header.entryCount }, (_, index) => {
        const { kind, block, count } = batch.entryOfWords(words, index);
        return { kind: kind as batch.EntryKind, block, count };
      });
      const { log, segment: number, position, previous, syncedSegment, syncedUnits } = header;
      const synced = { syncedSegment, syncedUnits };
      const place = { log, segment: number, position, previous, ...synced };
      return { place, entries, crcs: segment.wordsOf(tables.crcs) };
    },
    encode: ({ place, entries, crcs }: DecodedBatch) =>
      batch.encodeBatchHeader(place, entries, crcs, seed).header,
  },
  "a segment header": {
    example: (random) =>
      segment.encodeSegmentHeader({
        log: u32(random) * 1000,
        segment: u32(random),
        continuesSegment: u32(random),
        continuesUnits: u32(random),
        previous: u32(random),
        storeId: random.bytes(16),
      }).bytes,
    mend: mendUnit,
    decode(bytes) {
      const header = segment.decodeSegmentHeader(bytes);
      // Its own checksum is of the padding too, which is not kept.
      return header && { ...header, crc: 0 };
    },
    encode: (header: segment.SegmentHeader) => segment.encodeSegmentHeader(header).bytes,
  },
  "a segment footer": {
    example: (random) =>
      segment.encodeSegmentFooter({
        log: u32(random) * 1000,
        segment: u32(random),
        endUnits: u32(random),
        summaryBytes: u32(random),
        lastCrc: u32(random),
        summaryCrc: u32(random),
      }),
    mend: mendUnit,
    decode: segment.decodeSegmentFooter,
    encode: segment.encodeSegmentFooter,
  },
  "a summary": {
    example(random) {
      const blocks = random.below(50);
      const crcs = Uint32Array.from({ length: blocks }, () => u32(random));
      const hole = [u32(random), 0x20000, u32(random), 0];
      const entries = Uint32Array.of(5, 0x10000, blocks, 9, ...(random.below(2) ? hole : []));
      return segment.encodeSummary({ entries, crcs }).bytes;
    },
    mend: mendFrame,
    decode: (bytes) => segment.decodeSummary(bytes, "x"),
    encode: (summary: segment.Summary) => segment.encodeSummary(summary).bytes,
  },
  "the index of a cleaned body": {
    example(random) {
      const words = Uint32Array.from({ length: 4 * random.below(60) }, () => u32(random));
      const index = { log: u32(random), number: 3, generation: 1 + random.below(9), words };
      return Buffer.concat(body.encodeBodyIndex(body.segmentBodyKind, index));
    },
    mend: mendFrame,
    decode: (bytes) => body.decodeBodyIndex(body.segmentBodyKind, bytes, "x"),
    encode: (index: body.BodyIndex) =>
      Buffer.concat(body.encodeBodyIndex(body.segmentBodyKind, index)),
  },
  "a leaf of a map": {
    example(random) {
      const words = new Uint32Array(3 * node.chunkBlocks);
      for (let count = random.below(64); count > 0; count--) {
        const at = node.leafBlocks + random.below(node.leafBlocks);
        words[at] = 1 + random.below(1000);
        words[node.chunkBlocks + at] = u32(random);
        words[2 * node.chunkBlocks + at] = u32(random);
      }
      return node.encodeLeaf(words, leafOf.leaf, leafOf.index);
    },
    mend: mendNode,
    decode(bytes) {
      const words = new Uint32Array(3 * node.chunkBlocks);
      node.decodeLeaf(bytes, { words, ...leafOf });
      // A block without a segment is no block: what else it says is not kept.
      for (let at = 0; at < node.chunkBlocks; at++) {
        if (words[at] === 0) words[node.chunkBlocks + at] = words[2 * node.chunkBlocks + at] = 0;
      }
      return words;
    },
    encode: (words: Uint32Array) => node.encodeLeaf(words, leafOf.leaf, leafOf.index),
  },
  "a branch of a map": {
    example(random) {
      const references = Array.from({ length: 1 + random.below(64) }, () => u32(random) * 77);
      return node.encodeBranch({ type: node.nodeType.page, index: 5 }, references);
    },
    mend: mendNode,
    decode: (bytes) => node.decodeBranch(bytes, { type: node.nodeType.page, index: 5 }),
    encode: (references: Float64Array) =>
      node.encodeBranch({ type: node.nodeType.page, index: 5 }, references),
  },
  "a catalog record": {
    example: (random) =>
      Buffer.concat(
        encodeCatalogRecord({
          number: random.below(100),
          nonce: "000102030405060708090a0b0c0d0e0f",
          timeMs: 1_767_225_600_000,
          changes: [
            { type: "point", id: random.below(9), parent: random.below(9), sizeBytes: 2 ** 30 },
            { type: "assign", log: 2, from: random.below(9), point: 7 },
            { type: "resize", id: 4, sizeBytes: 512 },
            { type: "delete", id: 3 },
          ],
          notes: [{ type: "create", name: "disk", tip: 1 }],
        }),
      ),
    mend: mendFrame,
    decode: (bytes) => plain(decodeCatalogRecord(bytes, "x")),
    encode: (record: Parameters<typeof encodeCatalogRecord>[0]) =>
      Buffer.concat(encodeCatalogRecord(record)),
  },
  "a checkpoint": {
    example: (random) =>
      Buffer.concat(
        encodeCheckpoint({
          number: 3,
          records: random.below(99),
          timeMs: 1,
          nextId: 4,
          nextSegmentId: 5,
          nextMap: 6,
          points: [[1, 0, 512, 0, 2_097_153, 4, -1]],
          segments: [[2, 3, 0, 1, 10, 4, 90, 1, 46_080, 4]],
          logs: [[3, 1, 0, 90, u32(random)]],
          maps: [[1, 0, 300]],
          registry: { working: [] },
        }),
      ),
    mend: mendFrame,
    decode: (bytes) => plain(decodeCheckpoint(bytes, "x")),
    encode: (checkpoint: Parameters<typeof encodeCheckpoint>[0]) =>
      Buffer.concat(encodeCheckpoint(checkpoint)),
  },
  "a store's identity, and its feature bits": {
    example: (random) =>
      Buffer.concat(
        encodeIdentity({
          id: Buffer.from(random.bytes(16)).toString("hex"),
          format: 1,
          createdMs: 1_767_225_600_000,
          incompatible: random.below(3) === 0 ? ["encryption"] : [],
          readCompatible: [],
          compatible: ["hints"],
        }),
      ),
    mend: mendFrame,
    decode: (bytes) => plain(decodeIdentity(bytes, "store")),
    encode: (identity: Parameters<typeof encodeIdentity>[0]) =>
      Buffer.concat(encodeIdentity(identity)),
  },
};
