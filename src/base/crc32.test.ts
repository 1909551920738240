import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { crc32 as crc32OfZlib } from "node:zlib";
import { crc32 } from "./crc32.ts";

test("the checksum of 123456789 is that of the catalogue of CRCs", () => {
  assert.equal(crc32(Buffer.from("123456789")), 0xcbf43926);
});

test("any length, at any place, in any pieces, has the checksum that zlib gives it", () => {
  const bytes = Buffer.from(Array.from({ length: 9000 }, (_, at) => (at * 31) ^ (at >> 5)));
  for (const length of [0, 1, 7, 63, 64, 65, 255, 4095, 4096, 8191]) {
    for (const start of [0, 1, 13]) {
      const piece = bytes.subarray(start, start + length);
      assert.equal(crc32(piece), crc32OfZlib(piece), `${length} from ${start}`);
      const cut = Math.floor(length / 3);
      assert.equal(crc32(piece.subarray(cut), crc32(piece.subarray(0, cut))), crc32OfZlib(piece));
    }
  }
});

test("a view into the middle of its memory is what counts, not the memory", () => {
  const memory = new Uint8Array(8192).fill(1);
  memory.fill(2, 100, 4196);
  const view = new Uint8Array(memory.buffer, 100, 4096);
  assert.equal(crc32(view), crc32OfZlib(Buffer.alloc(4096, 2)));
});

test("the checkout has a prebuilt one for this machine", () => {
  const { crc32: prebuilt } = createRequire(import.meta.url)("@node-rs/crc32");
  assert.equal(prebuilt(Buffer.from("123456789")), 0xcbf43926);
});
