import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { checkDamage } from "../../../test/support/damaged-bytes.ts";
import { encodeFrame } from "./frame.ts";
import {
  decodeSegmentFooter,
  decodeSegmentHeader,
  decodeSummary,
  encodeSegmentFooter,
  encodeSegmentHeader,
  encodeSummary,
} from "./segment.ts";

const u32 = fc.integer({ min: 0, max: 0xffffffff });
/** Objects as decoders make them. */
const plain = { noNullPrototype: true };
const storeId = Buffer.from("000102030405060708090a0b0c0d0e0f", "hex");
const header = {
  log: 0x100000002,
  segment: 3,
  continuesSegment: 2,
  continuesUnits: 77,
  previous: 0xdeadbeef,
  storeId,
};
const footer = {
  log: 0x100000002,
  segment: 3,
  endUnits: 1234,
  summaryBytes: 1024,
  lastCrc: 0xdeadbeef,
  summaryCrc: 0xbaadf00d,
};

/** What stands at the front and, as 4 bytes, at the end. */
function unit(front: string, end: string): string {
  const bytes = Buffer.alloc(512);
  Buffer.from(front.replaceAll(" ", ""), "hex").copy(bytes);
  Buffer.from(end, "hex").copy(bytes, 508);
  return bytes.toString("hex");
}

test("header, footer and summary have the bytes that the tables say", () => {
  const headerFront =
    "4b4c5053 0100 0000 0200000001000000 03000000 02000000 4d000000 efbeadde" +
    "000102030405060708090a0b0c0d0e0f";
  assert.equal(encodeSegmentHeader(header).bytes.toString("hex"), unit(headerFront, "d4d7bf93"));
  const footerFront =
    "4b4c5045 0100 0000 0200000001000000 03000000 d2040000 00040000 efbeadde 0df0adba";
  assert.equal(encodeSegmentFooter(footer).toString("hex"), unit(footerFront, "4241d216"));
  const entries = Uint32Array.of(5, 0x10001, 2, 101, 9, 0x20000, 70000, 0);
  const { bytes } = encodeSummary({ entries, crcs: Uint32Array.of(0x11111111, 0x22222222) });
  const summaryFront =
    "4b4c5046 0400 0100 30000000 80b3a77b 02000000 02000000" +
    "05000000 01000100 02000000 65000000 09000000 00000200 70110100 00000000" +
    "11111111 22222222";
  assert.equal(bytes.toString("hex"), unit(summaryFront, "00000000"));
});

test("a segment header gives back what was put in", () => {
  const fields = {
    log: fc.maxSafeNat(),
    segment: u32,
    continuesSegment: u32,
    continuesUnits: u32,
    previous: u32,
    storeId: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((id) => Buffer.from(id)),
  };
  fc.assert(
    fc.property(fc.record(fields, plain), (value) => {
      const { bytes, crc } = encodeSegmentHeader(value);
      assert.deepEqual(decodeSegmentHeader(bytes), { ...value, crc });
    }),
  );
});

test("a segment footer gives back what was put in", () => {
  const fields = {
    log: fc.maxSafeNat(),
    segment: u32,
    endUnits: u32,
    summaryBytes: u32,
    lastCrc: u32,
    summaryCrc: u32,
  };
  fc.assert(
    fc.property(fc.record(fields, plain), (value) => {
      assert.deepEqual(decodeSegmentFooter(encodeSegmentFooter(value)), value);
    }),
  );
});

test("a summary gives back what was put in, and takes whole units", () => {
  const count = fc.nat(5);
  const entry = fc
    .tuple(u32, fc.nat(0xffff), fc.integer({ min: 1, max: 3 }), count, u32)
    .map(([low, high, kind, blocks, position]) => [low, kind * 65536 + high, blocks, position]);
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 20 }), (rows) => {
      const entries = Uint32Array.from(rows.flat());
      const isData = ([, kind = 0]: number[]) => kind >>> 16 === 1;
      const blocks = rows.filter(isData).reduce((sum, [, , some = 0]) => sum + some, 0);
      const crcs = Uint32Array.from({ length: blocks }, (_, at) => at * 2654435761);
      const { bytes, summaryBytes } = encodeSummary({ entries, crcs });
      assert.equal(bytes.length, summaryBytes);
      assert.equal(summaryBytes % 512, 0);
      assert.deepEqual(decodeSummary(bytes, "x"), { entries, crcs });
    }),
  );
});

test("what is damaged or truncated is refused", () => {
  checkDamage(encodeSegmentHeader(header).bytes, decodeSegmentHeader);
  checkDamage(encodeSegmentFooter(footer), decodeSegmentFooter);
  const entries = Uint32Array.of(5, 0x10001, 2, 101, 9, 0x20000, 70000, 0);
  const { bytes } = encodeSummary({ entries, crcs: Uint32Array.of(1, 2) });
  checkDamage(bytes, (damaged) => decodeSummary(damaged, "x"));
});

test("a header is no footer, and neither is one of another version or an impossible log", () => {
  assert.equal(decodeSegmentFooter(encodeSegmentHeader(header).bytes), undefined);
  assert.equal(decodeSegmentHeader(encodeSegmentFooter(footer)), undefined);
  const changes = [
    (bytes: Buffer) => bytes.writeUInt16LE(2, 4),
    (bytes: Buffer) => bytes.writeUInt32LE(2 ** 21, 12), // a log that would be rounded
  ];
  for (const change of changes) {
    for (const bytes of [encodeSegmentHeader(header).bytes, encodeSegmentFooter(footer)]) {
      change(bytes);
      bytes.writeUInt32LE(crc32(bytes.subarray(0, 508)), 508);
      assert.equal(decodeSegmentHeader(bytes) ?? decodeSegmentFooter(bytes), undefined);
    }
  }
});

test("a whole summary whose counts are absurd is refused, and nothing is allocated for them", () => {
  for (const [entries, blocks] of [
    [0xffffffff, 0],
    [0, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [1, 0],
  ] as const) {
    const payload = Buffer.alloc(8);
    payload.writeUInt32LE(entries, 0);
    payload.writeUInt32LE(blocks, 4);
    const bytes = Buffer.concat(encodeFrame({ type: 4, version: 1, what: "" }, payload));
    assert.throws(() => decodeSummary(bytes, "x"), { code: "corrupt" });
  }
  const tiny = Buffer.concat(encodeFrame({ type: 4, version: 1, what: "" }, Buffer.alloc(3)));
  assert.throws(() => decodeSummary(tiny, "x"), { code: "corrupt" });
});

test("a whole summary with other blocks than its entries say is refused", () => {
  for (const [kind, count] of [
    [1, 1],
    [1, 0xffffffff],
    [2, 2],
    [0, 2],
    [4, 2],
  ] as const) {
    const entries = Uint32Array.of(5, kind * 65536, count, 101);
    const { bytes } = encodeSummary({ entries, crcs: Uint32Array.of(1, 2) });
    assert.throws(() => decodeSummary(bytes, "x"), { code: "corrupt" });
  }
});

test("a summary of another version is unsupported", () => {
  const bytes = Buffer.concat(encodeFrame({ type: 4, version: 2, what: "" }, Buffer.alloc(8)));
  assert.throws(() => decodeSummary(bytes, "x"), { code: "unsupported" });
});
