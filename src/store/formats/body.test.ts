import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkDamage } from "../../../test/support/damaged-bytes.ts";
import {
  bodyIndexBytes,
  bodyItemsOffset,
  decodeBodyIndex,
  encodeBodyIndex,
  findItem,
  mapBodyKind,
  segmentBodyKind,
} from "./body.ts";
import { encodeFrame, frameHeaderBytes } from "./frame.ts";

const golden = {
  log: 0x100000002,
  number: 3,
  generation: 4,
  words: Uint32Array.of(9, 0x11111111, 5, 1, 17, 0x22222222, 6, 0),
};

function encoded(index: typeof golden, kind = segmentBodyKind): Buffer {
  return Buffer.concat(encodeBodyIndex(kind, index));
}

test("the index of a body has the bytes that the table says", () => {
  const front =
    "4b4c5046 0500 0100 38000000 b480aad0 0200000001000000 03000000 04000000 02000000 00000000" +
    "09000000 11111111 05000000 01000000 11000000 22222222 06000000 00000000";
  const expected = Buffer.alloc(512);
  Buffer.from(front.replaceAll(" ", ""), "hex").copy(expected);
  assert.equal(encoded(golden).toString("hex"), expected.toString("hex"));
});

const indexArbitrary = fc.record({
  log: fc.maxSafeNat(),
  number: fc.nat(2 ** 31 - 1),
  generation: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  words: fc.uint32Array({ maxLength: 400 }).map((all) => all.slice(0, all.length & ~3)),
});

test("the index of a body gives back what was put in, and says where its items begin", () => {
  fc.assert(
    fc.property(indexArbitrary, (index) => {
      const bytes = encoded(index);
      const itemsOffset = bodyItemsOffset(index.words.length / 4);
      assert.equal(bytes.length, itemsOffset);
      assert.equal(itemsOffset % 512, 0);
      assert.deepEqual(decodeBodyIndex(segmentBodyKind, bytes, "x"), { ...index, itemsOffset });
      // The first bytes tell how many are needed to read the rest.
      const needed = bodyIndexBytes(bytes.subarray(0, frameHeaderBytes));
      assert.deepEqual(decodeBodyIndex(segmentBodyKind, bytes.subarray(0, needed), "x"), {
        ...index,
        itemsOffset,
      });
    }),
  );
});

test("every item is found by its place, and nothing else is", () => {
  const places = fc.uniqueArray(fc.nat(300), { maxLength: 60 });
  fc.assert(
    fc.property(places, (unsorted) => {
      const sorted = [...unsorted].sort((a, b) => a - b);
      const words = new Uint32Array(sorted.length * 4);
      sorted.forEach((place, at) => {
        words[at * 4] = place;
      });
      for (let place = 0; place <= 301; place++) {
        assert.equal(findItem(words, place), sorted.indexOf(place));
      }
    }),
  );
});

test("a damaged or truncated index is refused", () => {
  checkDamage(encoded(golden), (bytes) => decodeBodyIndex(segmentBodyKind, bytes, "x"));
});

test("the body of a map object is not taken for one of a segment", () => {
  const bytes = encoded({ ...golden, log: 0 }, mapBodyKind);
  assert.throws(() => decodeBodyIndex(segmentBodyKind, bytes, "x"), { code: "corrupt" });
  assert.equal(decodeBodyIndex(mapBodyKind, bytes, "x").number, 3);
});

test("absurd counts in a whole index are refused, and nothing is allocated for them", () => {
  const payload = Buffer.alloc(24);
  payload.writeUInt32LE(0xffffffff, 16);
  const bytes = Buffer.concat(encodeFrame(segmentBodyKind, payload));
  assert.throws(() => decodeBodyIndex(segmentBodyKind, bytes, "x"), { code: "corrupt" });
  for (const length of [0, 8, 10, 23]) {
    const short = Buffer.concat(encodeFrame(segmentBodyKind, Buffer.alloc(length)));
    assert.throws(() => decodeBodyIndex(segmentBodyKind, short, "x"), { code: "corrupt" });
  }
});

test("a log whose number would be rounded is refused", () => {
  const payload = Buffer.alloc(24);
  payload.writeUInt32LE(2 ** 21, 4);
  const bytes = Buffer.concat(encodeFrame(segmentBodyKind, payload));
  assert.throws(() => decodeBodyIndex(segmentBodyKind, bytes, "x"), { code: "corrupt" });
});

test("a body of another version is unsupported", () => {
  const bytes = encoded(golden, { ...segmentBodyKind, version: 2 });
  assert.throws(() => decodeBodyIndex(segmentBodyKind, bytes, "x"), { code: "unsupported" });
});
