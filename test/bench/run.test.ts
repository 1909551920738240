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
  const results = await runMicroBenches({ form: "quick" });
  assert.deepEqual(
    results.map(({ name }) => name),
    microBenches.map(({ name }) => name),
  );
  for (const { name, operations } of results) assert.ok(operations >= 64, name);
});

test("a smallest run measures every server of a figure, and a check of it can fail", {
  skip: missing,
}, async () => {
  await using scratch = await Scratch.create();
  const json = scratch.file("bench.json");
  const only = ["--quick", "--only", "random-read-32", "--scratch", scratch.path];
  const printed: string[] = [];
  const context = {
    print: (text: string) => void printed.push(text),
    progress: () => {},
    sizes: { turnMs: 60, diskBytes: 16 * 2 ** 20 },
  };
  const run = (...more: string[]) => runCommand(parseOptions([...only, ...more]), context);
  assert.equal(await run("--rounds", "1", "--json", json), 0, printed.join("\n"));

  const report = JSON.parse(await readFile(json, "utf8")) as BenchReport;
  const [figure] = report.figures;
  const peers = figure?.comparisons.map(({ beside }) => beside);
  assert.deepEqual(peers, ["qemu-nbd qcow2", "nbdkit memory", "an empty server"]);
  for (const { beside, ours, theirs } of figure?.comparisons ?? []) {
    assert.equal(ours.length, 1, beside);
    for (const value of [...ours, ...theirs]) assert.ok(value > 0, beside);
  }

  // Ratios a thousand times as good were never seen: the same run must fail the check.
  for (const one of figure?.comparisons ?? []) one.ours = one.ours.map((value) => value * 1000);
  await writeFile(json, JSON.stringify(report));
  assert.equal(await run("--check", json), 1);
  assert.match(printed.at(-1) ?? "", /check FAILED: 2 of 2 recorded ratios compared/);
});
