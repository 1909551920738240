import assert from "node:assert/strict";
import { test } from "node:test";
import { zeroOptionsOf } from "./request-rules.ts";
import { commandFlag } from "./wire-transmission.ts";

test("a zeroing keeps its range allocated with NO_HOLE and not without it", () => {
  const { fua, noHole, fastZero } = commandFlag;
  const plain = { fua: false, keepAllocated: false, fast: false };
  assert.deepEqual(zeroOptionsOf(0), plain);
  assert.deepEqual(zeroOptionsOf(noHole), { ...plain, keepAllocated: true });
  assert.deepEqual(zeroOptionsOf(fua), { ...plain, fua: true });
  assert.deepEqual(zeroOptionsOf(fastZero), { ...plain, fast: true });
});
