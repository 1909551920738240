import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isKelpieError } from "./errors.ts";
import { exactSize, formatSize, parseSize } from "./sizes.ts";

test("sizes are read as people write them, in binary multiples", () => {
  const examples: [string, number][] = [
    ["0", 0],
    ["512", 512],
    ["512B", 512],
    ["64k", 65536],
    ["64 KiB", 65536],
    ["10G", 10 * 2 ** 30],
    ["10GB", 10 * 2 ** 30],
    ["10GiB", 10 * 2 ** 30],
    ["1.5T", 1.5 * 2 ** 40],
    ["0.5k", 512],
    ["1.500M", 1.5 * 2 ** 20],
    ["+4m", 4 * 2 ** 20],
    ["2P", 2 * 2 ** 50],
    [" 7M ", 7 * 2 ** 20],
  ];
  for (const [text, bytes] of examples) assert.equal(parseSize(text), bytes, text);
});

test("what is no size is refused with a reason that names it", () => {
  const examples: [string, RegExp][] = [
    ["", /empty/],
    ["  ", /empty/],
    ["abc", /"abc" is not a size/],
    ["10X", /not a size/],
    ["10Gx", /not a size/],
    ["G", /not a size/],
    ["1.", /not a size/],
    [".5G", /not a size/],
    ["1e9", /not a size/],
    ["0x10", /not a size/],
    ["1,5G", /not a size/],
    ["Infinity", /not a size/],
    ["-1G", /negative/],
    ["-0", /negative/],
    ["1.1G", /whole number of bytes/],
    ["0.5", /whole number of bytes/],
    ["8192P", /too large/],
    ["99999999999999999999", /too large/],
    ["9".repeat(1000), /not a size/],
  ];
  for (const [text, reason] of examples) {
    assert.throws(
      () => parseSize(text),
      (error) => isKelpieError(error, "invalid") && reason.test(error.message),
      text,
    );
  }
});

test("an exact size reads back as the same bytes", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.constantFrom(1, 512, 4096, 2 ** 20, 2 ** 30), (n, unit) => {
      const bytes = (n % Math.floor(Number.MAX_SAFE_INTEGER / unit)) * unit;
      assert.equal(parseSize(exactSize(bytes)), bytes);
    }),
  );
  assert.equal(exactSize(10 * 2 ** 30), "10G");
  assert.equal(exactSize(1.5 * 2 ** 40), "1536G");
  assert.equal(exactSize(512), "512");
  assert.equal(exactSize(0), "0");
});

test("anything that is parsed is whole, safe and not negative; anything else is a KelpieError", () => {
  const text = fc.oneof(
    fc.string(),
    fc.stringMatching(/^[-+]?\d{0,20}\.?\d{0,5} ?[kmgtpeKMGTPE]?i?[bB]?$/),
  );
  fc.assert(
    fc.property(text, (candidate) => {
      try {
        const bytes = parseSize(candidate);
        assert.ok(Number.isSafeInteger(bytes) && bytes >= 0);
      } catch (error) {
        assert.ok(isKelpieError(error, "invalid"), String(error));
      }
    }),
  );
});

test("sizes for people keep two significant digits and never show 1024 of a unit", () => {
  const examples: [number, string][] = [
    [0, "0 B"],
    [1, "1 B"],
    [1023, "1023 B"],
    [4096, "4.0 KiB"],
    [10 * 1024, "10 KiB"],
    [9.96 * 1024, "10 KiB"],
    [1.25 * 2 ** 30, "1.3 GiB"],
    [10 * 2 ** 30, "10 GiB"],
    [1023.9 * 2 ** 20, "1.0 GiB"],
    [16 * 2 ** 40, "16 TiB"],
  ];
  for (const [bytes, text] of examples) assert.equal(formatSize(bytes), text);
});
