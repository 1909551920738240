import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  joinBytes,
  lengthOf,
  Reader,
  readU16,
  readU32,
  readU64,
  Writer,
  writeU16,
  writeU32,
  writeU64,
} from "./bytes.ts";
import { isKelpieError } from "./errors.ts";

test("what a writer writes a reader reads, in both byte orders", () => {
  const field = fc.oneof(
    fc.record({ kind: fc.constant("u8" as const), value: fc.integer({ min: 0, max: 0xff }) }),
    fc.record({ kind: fc.constant("u16" as const), value: fc.integer({ min: 0, max: 0xffff }) }),
    fc.record({
      kind: fc.constant("u32" as const),
      value: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    }),
    fc.record({ kind: fc.constant("u64" as const), value: fc.maxSafeNat() }),
  );
  fc.assert(
    fc.property(
      fc.array(field),
      fc.constantFrom("big" as const, "little" as const),
      (fields, order) => {
        const writer = new Writer(order, 1);
        for (const { kind, value } of fields) writer[kind](value);
        const reader = new Reader(writer.finish(), order);
        for (const { kind, value } of fields) assert.equal(reader[kind](), value);
        reader.end();
      },
    ),
  );
});

test("byte orders are what they say", () => {
  const big = new Writer("big").u16(0x0102).u32(0x03040506).u64(0x0708090a0b0c0d);
  const bigBytes = [1, 2, 3, 4, 5, 6, 0, 7, 8, 9, 10, 11, 12, 13];
  assert.deepEqual([...big.finish()], bigBytes);
  const little = new Writer("little").u16(0x0102).u32(0x03040506).u64(0x0708090a0b0c0d);
  assert.deepEqual([...little.finish()], [2, 1, 6, 5, 4, 3, 13, 12, 11, 10, 9, 8, 7, 0]);
});

test("the free functions are big-endian and agree with the reader", () => {
  const bytes = new Uint8Array(16);
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.nat(0xffffffff), fc.nat(0xffff), (u64, u32, u16) => {
      writeU64(bytes, 1, u64);
      writeU32(bytes, 9, u32);
      writeU16(bytes, 13, u16);
      const reader = new Reader(bytes.subarray(1));
      assert.deepEqual([reader.u64(), reader.u32(), reader.u16()], [u64, u32, u16]);
      assert.deepEqual([readU64(bytes, 1), readU32(bytes, 9), readU16(bytes, 13)], [u64, u32, u16]);
    }),
  );
});

test("a signed word is written as its bits", () => {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, -2);
  assert.equal(readU32(bytes, 0), 0xfffffffe);
});

test("a reader refuses what is too large, too short or too long", () => {
  const invalid = (error: unknown) => isKelpieError(error, "invalid");
  const large = new Uint8Array([0, 0x20, 0, 0, 0, 0, 0, 0]);
  assert.throws(() => new Reader(large).u64(), invalid);
  assert.equal(readU64(large, 0), 2 ** 53);
  assert.throws(() => new Reader(new Uint8Array(3)).u32(), invalid);
  assert.throws(() => new Reader(new Uint8Array(3)).bytes(4), invalid);
  assert.throws(() => new Reader(new Uint8Array(3)).end(), invalid);
  assert.throws(() => new Reader(new Uint8Array([0xff])).utf8(1), invalid);
});

test("a writer refuses numbers that do not fit", () => {
  assert.throws(() => new Writer().u8(256));
  assert.throws(() => new Writer().u16(-1));
  assert.throws(() => new Writer().u32(2 ** 32));
  assert.throws(() => new Writer().u64(2 ** 53));
});

test("a reader of a view stays inside the view", () => {
  const bytes = new Uint8Array([9, 9, 1, 2, 9]).subarray(2, 4);
  const reader = new Reader(bytes);
  assert.equal(reader.u16(), 0x0102);
  assert.equal(reader.remaining, 0);
});

test("zeros stay zeros after the writer has grown", () => {
  const bytes = new Writer("big", 2).u8(1).zeros(9).utf8("é").finish();
  assert.deepEqual([...bytes], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0xa9]);
});

test("joining keeps order and does not copy a single part", () => {
  const one = new Uint8Array([1]);
  assert.equal(joinBytes([one]), one);
  assert.deepEqual([...joinBytes([one, new Uint8Array([2, 3])])], [1, 2, 3]);
  assert.equal(lengthOf([one, one]), 2);
});
