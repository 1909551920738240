import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { test } from "node:test";
import { withTables } from "../../bench/growth/document.ts";
import { type GrowthRow, measureGrowth } from "../../bench/growth/growth.ts";
import { GrowthResults } from "../../bench/growth/results.ts";
import { Scratch } from "../support/server-process.ts";

const level = (snapshots: number) => ({ by: "snapshots", sizeBytes: 2 ** 30, snapshots }) as const;
const row = (snapshots: number, buildMs: number) =>
  ({ ...level(snapshots), buildMs }) as unknown as GrowthRow;

test("results are there as soon as they are added, in order, the newest of each level", async () => {
  await using scratch = await Scratch.create();
  const file = scratch.file("growth.json");
  const results = await GrowthResults.open(file);
  assert.equal(results.has(level(1)), false);
  for (const [snapshots, buildMs] of [
    [100, 1],
    [1, 2],
    [100, 3],
  ] as const) {
    await results.add(row(snapshots, buildMs));
  }
  const again = await GrowthResults.open(file);
  assert.deepEqual(
    [again.has(level(1)), again.has(level(10)), again.has(level(100))],
    [true, false, true],
  );
  assert.deepEqual(again.report.rows, [row(1, 2), row(100, 3)]);
});

test("a task that takes too long is killed and named; a level that is done is not begun", async () => {
  await using scratch = await Scratch.create();
  const failed = await measureGrowth({
    sizes: [1, 2],
    snapshots: [1],
    samples: 1,
    taskMs: 1,
    signal: new AbortController().signal,
    scratch: scratch.path,
    isDone: ({ by, sizeBytes }) => by === "snapshots" || sizeBytes === 2 ** 30,
    onRow: () => assert.fail("nothing can have been measured"),
    progress: () => {},
  });
  assert.equal(failed.length, 1);
  assert.match(failed[0] ?? "", /^2 GiB, 1 snapshots: build .* not done in 0\.001 s$/);
  assert.deepEqual(await readdir(scratch.path), []);
});

test("an interrupted run leaves no process and no store", async () => {
  await using scratch = await Scratch.create();
  const stop = new AbortController();
  const all = measureGrowth({
    sizes: [1, 2],
    snapshots: [1],
    samples: 1,
    taskMs: 60_000,
    signal: stop.signal,
    scratch: scratch.path,
    isDone: () => false,
    onRow: () => assert.fail("nothing can have been measured"),
    progress: () => {},
  });
  setTimeout(() => stop.abort(new Error("interrupted")), 200);
  await assert.rejects(all, /^Error: interrupted$/);
  assert.deepEqual(await readdir(scratch.path), []);
});

test("tables stand between their marks, in the place of older ones", () => {
  const document = "before\n<!-- growth -->\nold\n<!-- /growth -->\nafter\n";
  const once = withTables(document, "new");
  assert.equal(once, "before\n<!-- growth -->\n\nnew\n\n<!-- /growth -->\nafter\n");
  assert.equal(withTables(once, "new"), once);
  assert.throws(() => withTables("no marks", "new"), /does not have/);
});
