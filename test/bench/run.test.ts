import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { runCommand } from "../../bench/command.ts";
import { microBenches, runMicroBenches } from "../../bench/micro/all.ts";
import { parseOptions } from "../../bench/options.ts";
import type { BenchReport } from "../../bench/report.ts";
import { Scratch } from "../support/server-process.ts";
import { requireTool } from "../support/tools.ts";

const missing =
  requireTool("fio", "fio") ||
  requireTool("qemu-nbd", "qemu-utils") ||
  requireTool("nbdkit", "nbdkit");

test("the micro-benchmarks run and check what they did", async () => {
  const results = await runMicroBenches({ form: "smallest" });
  assert.deepEqual(
    results.map(({ name }) => name),
    microBenches.map(({ name }) => name),
  );
  for (const { name, operations } of results) assert.ok(operations >= 64, name);
});

test("a smallest run measures every server of a figure", { skip: missing }, async () => {
  await using scratch = await Scratch.create();
  const json = scratch.file("bench.json");
  const { exitCode, printed } = await run(scratch, "--only", "random-read-32", "--json", json);
  assert.equal(exitCode, 0, printed.join("\n"));
  const report = JSON.parse(await readFile(json, "utf8")) as BenchReport;
  const [figure] = report.figures;
  const peers = figure?.comparisons.map(({ beside }) => beside);
  assert.deepEqual(peers, ["qemu-nbd qcow2", "nbdkit memory", "an empty server"]);
  for (const { beside, ours, theirs } of figure?.comparisons ?? []) {
    assert.equal(ours.length, 1, beside);
    for (const value of [...ours, ...theirs]) assert.ok(value > 0, beside);
  }
});

test("a smallest run asks one disk over both protocols", { skip: missing }, async () => {
  await using scratch = await Scratch.create();
  const json = scratch.file("bench.json");
  const { exitCode, printed } = await run(scratch, "--only", "sheepdog", "--json", json);
  assert.equal(exitCode, 0, printed.join("\n"));
  const { figures } = JSON.parse(await readFile(json, "utf8")) as BenchReport;
  assert.deepEqual(
    figures.map(({ id }) => id),
    ["sheepdog-read-32", "sheepdog-write-32"],
  );
  for (const { id, comparisons } of figures) {
    assert.equal(comparisons.length, 1, id);
    for (const { ours, theirs } of comparisons) {
      for (const value of [...ours, ...theirs]) assert.ok(value > 0, id);
    }
  }
});

test("a check fails when a ratio is bad twice", { skip: missing }, async () => {
  await using scratch = await Scratch.create();
  const json = scratch.file("recorded.json");
  const beside = "qemu-nbd qcow2";
  // A ratio that was never seen.
  const once = { beside, unit: "/s", ours: [1e6], theirs: [1], target: { atLeast: 1 } };
  const recorded = { figures: [{ id: "random-read-1", comparisons: [once] }] };
  await writeFile(json, JSON.stringify(recorded));
  const { exitCode, printed } = await run(scratch, "--check", json);
  assert.equal(exitCode, 1);
  assert.ok(printed.includes("check: measured again"));
  assert.match(printed.at(-1) ?? "", /check FAILED: 1 of 1 recorded ratios compared/);
});

/** The command with all that it measures as small as can be, and fewer rounds than a check may have. */
async function run(
  scratch: Scratch,
  ...argv: string[]
): Promise<{ exitCode: number; printed: string[] }> {
  const printed: string[] = [];
  const options = parseOptions(["--quick", "--scratch", scratch.path, ...argv]);
  const exitCode = await runCommand(
    { ...options, rounds: 1 },
    {
      print: (text) => void printed.push(text),
      progress: () => {},
      load: () => 1,
      sizes: { turnMs: 60, diskBytes: 16 * 2 ** 20 },
    },
  );
  return { exitCode, printed };
}
