import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { runTestFile } from "../../scripts/test-file.ts";
import { allMutants } from "./all-mutants.ts";
import { hunt } from "./hunt.ts";
import { plant } from "./mutant.ts";
import { mergeResults } from "./results.ts";
import { checkout, ScratchCheckout } from "./scratch-checkout.ts";
import { tableText } from "./table.ts";

/** Of several layers, each found in a second by the test beside its file. */
const samples = [
  "data that a failed sync lost is written again and not synced",
  "a batch header's checksum is not checked",
  "two ranges that touch in one place do not conflict",
];

const { signal } = new AbortController();
let scratch: ScratchCheckout | undefined;
after(() => scratch?.remove());

test("every planted bug has its place in the source, and a name of its own", () => {
  for (const mutant of allMutants) plant(mutant, readFileSync(join(checkout, mutant.file), "utf8"));
  assert.equal(new Set(allMutants.map(({ name }) => name)).size, allMutants.length);
  assert.ok(allMutants.length >= 30);
});

for (const name of samples) {
  test(`"${name}" is found when it is planted in a copy, and only then`, async () => {
    const mutant = allMutants.find((candidate) => candidate.name === name) ?? assert.fail();
    const before = readFileSync(join(checkout, mutant.file), "utf8");
    scratch ??= new ScratchCheckout();
    const { foundBy } = await hunt(mutant, scratch, { signal, only: ["beside"] });
    assert.ok(foundBy !== undefined);
    const { directory } = scratch;
    const without = await runTestFile(foundBy.path, {
      limitMs: 60_000,
      nodeOptions: [],
      signal,
      directory,
    });
    assert.equal(without.complaint, undefined);
    assert.ok(without.reports.every(({ event }) => event === "pass"));
    assert.equal(readFileSync(join(checkout, mutant.file), "utf8"), before);
  });
}

test("a planted bug that does not load is a mistake of ours, and not found", async () => {
  scratch ??= new ScratchCheckout();
  const file = "src/base/range-lock.ts";
  const mutant = {
    name: "no program",
    file,
    find: "export class RangeLock",
    replace: "export clas RangeLock",
    why: "a slip",
  };
  const hunting = hunt(mutant, scratch, { signal, only: ["beside"] });
  await assert.rejects(hunting, /with "no program", src\/base\/range-lock\.test\.ts does not load/);
  const copy = readFileSync(join(scratch.directory, file), "utf8");
  assert.equal(copy, readFileSync(join(checkout, file), "utf8"));
});

test("simulation of a copy says how many worlds it took, and which failed", async () => {
  const name = "a flush is answered for batches that came during its sync";
  const mutant = allMutants.find((candidate) => candidate.name === name) ?? assert.fail();
  scratch ??= new ScratchCheckout();
  const { foundBy, simulation } = await hunt(mutant, scratch, { signal, only: ["simulation"] });
  assert.equal(foundBy?.check, "simulation");
  assert.ok(simulation !== undefined && simulation.failure !== undefined);
  assert.ok(simulation.worlds >= 1 && simulation.seconds > 0 && simulation.seconds < 60);
});

test("the table of results says what nobody found, and how long simulation took", () => {
  const base = { filesRun: 3, commit: "1234567" };
  const text = tableText(
    [
      {
        ...base,
        name: "late",
        foundBy: undefined,
        seconds: 90,
        simulation: { worlds: 400, seconds: 60, failure: undefined },
      },
      {
        ...base,
        name: "early",
        foundBy: { check: "beside", path: "src/store/tip.test.ts", test: "a test" },
        seconds: 1.04,
        simulation: { worlds: 7, seconds: 2.5, failure: "something is wrong" },
      },
    ],
    5,
  );
  assert.match(text, /Of 5 planted bugs 2 were hunted, and 1 found, at 1234567/);
  assert.match(text, /found 1 of 2, the slowest after 7 worlds and 2\.5 s/);
  const rows = text
    .split("\n")
    .filter((line) => line.startsWith("| late") || line.startsWith("| early"));
  assert.deepEqual(rows, [
    "| early | `store/tip` | 1.0 | 7 worlds, 2.5 s |",
    "| late | **nothing**, 3 files | 90.0 | not in 400 worlds, 60 s |",
  ]);
});

test("what tests and what simulation found in two parts becomes one row", () => {
  const base = { name: "a", commit: "1234567", simulation: undefined };
  const foundBy = { check: "beside", path: "src/store/tip.test.ts", test: "a test" };
  const simulation = { worlds: 7, seconds: 2.5, failure: "something is wrong" };
  const byWorlds = { check: "simulation", path: "test/mutants/many-worlds.ts", test: "wrong" };
  const parts = [
    { ...base, foundBy, seconds: 3, filesRun: 1 },
    { ...base, foundBy: byWorlds, seconds: 9, filesRun: 0, simulation },
  ];
  const expected = { ...base, foundBy, seconds: 3, filesRun: 1, simulation };
  for (const order of [parts, parts.toReversed()])
    assert.deepEqual(mergeResults(order), [expected]);
});
