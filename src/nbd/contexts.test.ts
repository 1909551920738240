import assert from "node:assert/strict";
import { test } from "node:test";
import {
  availableContexts,
  contextOf,
  extentKindOf,
  flagsOfValue,
  selectContexts,
  valueOfFlags,
} from "./contexts.ts";

const available = availableContexts(["one", "two"]);
const [base, depth, one, two] = [
  "base:allocation",
  "qemu:allocation-depth",
  "qemu:dirty-bitmap:one",
  "qemu:dirty-bitmap:two",
];

test("a list without queries is everything", () => {
  assert.deepEqual(selectContexts(available, [], true), [base, depth, one, two]);
});

test("wildcards list a namespace, and select nothing", () => {
  assert.deepEqual(selectContexts(available, ["base:"], true), [base]);
  assert.deepEqual(selectContexts(available, ["qemu:"], true), [depth, one, two]);
  assert.deepEqual(selectContexts(available, ["qemu:dirty-bitmap:"], true), [one, two]);
  assert.deepEqual(selectContexts(available, ["base:", "qemu:"], false), []);
  assert.deepEqual(selectContexts(available, [], false), []);
});

test("exact names select, what is not there does not", () => {
  const queries = [two, base, "qemu:dirty-bitmap:three", "x-other:thing", base] as string[];
  assert.deepEqual(selectContexts(available, queries, false), [base, two]);
  assert.deepEqual(selectContexts(available, ["qemu:dirty-bitmap:on"], true), []);
});

test("a query without a namespace is invalid", () => {
  for (const query of ["", "allocation", ":x"]) {
    assert.throws(() => selectContexts(available, [query], true), { code: "invalid" });
  }
});

test("each context stands for one question, and back", () => {
  for (const context of available) {
    const kind = extentKindOf(context);
    assert.ok(kind);
    assert.equal(contextOf(kind), context);
  }
  assert.equal(extentKindOf("x-other:thing"), undefined);
});

test("allocation flags are HOLE and ZERO; the rest is as the device says", () => {
  const allocation = { kind: "allocation" } as const;
  assert.deepEqual(
    [0, 1, 2].map((value) => flagsOfValue(allocation, value)),
    [0, 3, 2],
  );
  assert.deepEqual(
    [0, 1, 2, 3].map((flags) => valueOfFlags(allocation, flags)),
    [0, 0, 2, 1],
  );
  assert.equal(flagsOfValue({ kind: "depth" }, 7), 7);
  assert.equal(valueOfFlags({ kind: "depth" }, 7), 7);
  assert.equal(valueOfFlags({ kind: "changed", since: "x" }, 3), 1);
});
