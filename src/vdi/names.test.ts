import assert from "node:assert/strict";
import { test } from "node:test";
import { checkName, checkSize, checkTag, parseSelector } from "./names.ts";

test("names and tags have up to 255 bytes of any text", () => {
  for (const good of [
    "a",
    "a b",
    "vm@home",
    "disk/1",
    "3",
    "ünï",
    "x".repeat(255),
    "é".repeat(127),
  ]) {
    checkName(good);
  }
  for (const bad of ["", ".", "..", "a\0b", "a\nb", "x".repeat(256), "é".repeat(128), "\ud800"]) {
    assert.throws(() => checkName(bad), { code: "invalid" }, JSON.stringify(bad));
  }
});

test("a tag that looks like a snap id is refused, one that only begins so is not", () => {
  for (const bad of ["0", "1", "007", "#1", "123456789012", "", "a\u0001"]) {
    assert.throws(() => checkTag(bad), { code: "invalid" }, bad);
  }
  for (const good of ["v1", "1a", "1.0", "-1", "#", "##1", "2026-01-01", "x".repeat(255)]) {
    checkTag(good);
  }
});

test("a selector that is a number is a snap id, everything else a tag", () => {
  assert.deepEqual(parseSelector("3"), { kind: "id", snapId: 3 });
  assert.deepEqual(parseSelector("#3"), { kind: "id", snapId: 3 });
  assert.deepEqual(parseSelector("3a"), { kind: "tag", tag: "3a" });
  assert.deepEqual(parseSelector("#"), { kind: "tag", tag: "#" });
  assert.throws(() => parseSelector(""), { code: "invalid" });
});

test("sizes are multiples of 512 bytes from one sector to 16 TiB", () => {
  for (const good of [512, 1536, 2 ** 40, 2 ** 44]) checkSize(good);
  for (const bad of [0, -512, 100, 511.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 44 + 512]) {
    assert.throws(() => checkSize(bad), { code: "invalid" }, String(bad));
  }
});
