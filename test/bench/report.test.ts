import assert from "node:assert/strict";
import { test } from "node:test";
import { barChart } from "../../bench/bar-chart.ts";
import { checkReport, recordedOf, verdictOf } from "../../bench/check.ts";
import { parseOptions } from "../../bench/options.ts";
import { type BenchReport, type Comparison, isMet, ratioOf } from "../../bench/report.ts";
import { formatReport } from "../../bench/table.ts";
import { inTurns } from "../../bench/turns.ts";

function comparison(ours: number[], theirs: number[], target: Comparison["target"]): Comparison {
  return { beside: "a <peer>", unit: "/s", ours, theirs, target };
}

function report(...comparisons: Comparison[]): BenchReport {
  return {
    machine: {
      cores: 2,
      processor: "a processor",
      memoryBytes: 2 ** 33,
      kernel: "6.1",
      node: "24.0.0",
      tools: { fio: "fio-3.33" },
    },
    form: "quick",
    rounds: 3,
    diskBytes: 2 ** 29,
    figures: [{ id: "figure", name: "a figure", target: "in words", comparisons, seconds: 1 }],
  };
}

test("a ratio is the median of the rounds' ratios, not the ratio of the medians", () => {
  const rounds = comparison([10, 90, 30], [10, 30, 60], { atLeast: 1 });
  assert.equal(ratioOf(rounds), 1);
});

test("a target is met at it, and one that is a limit only below it", () => {
  assert.equal(isMet(comparison([3], [1], { atLeast: 3 })), true);
  assert.equal(isMet(comparison([2.99], [1], { atLeast: 3 })), false);
  assert.equal(isMet(comparison([1.5], [1], { under: 1.5 })), false);
  assert.equal(isMet(comparison([1.4], [1], { under: 1.5 })), true);
  assert.equal(isMet(comparison([1], [1], undefined)), undefined);
});

test("the table says what is met, what is missed, and why something was not measured", () => {
  const text = formatReport(
    report(comparison([30], [10], { atLeast: 2 }), comparison([10], [10], { atLeast: 2 }), {
      ...comparison([], [], { atLeast: 2 }),
      notMeasured: "fio is not installed",
    }),
  );
  assert.match(text, /3\.00 +>= 2 +met/);
  assert.match(text, /1\.00 +>= 2 +MISSED/);
  assert.match(text, /not measured: fio is not\s/);
  assert.match(text, /0 met, 1 missed, 0 not measured/);
});

test("the chart has a bar for each ratio with a target, and no markup from names", () => {
  const svg = barChart(
    report(comparison([3], [1], { atLeast: 2 }), comparison([3], [1], undefined)),
  );
  assert.equal(svg.match(/height="14" fill=/g)?.length, 1);
  assert.match(svg, /a figure \/ a &lt;peer&gt;/);
  assert.doesNotMatch(svg, /<peer>/);
});

test("turns are interleaved, and a warm-up round does not count", async () => {
  const order: string[] = [];
  let value = 0;
  const turn = (name: string) => ({
    name,
    before: async () => void order.push(`before ${name}`),
    run: async () => {
      order.push(name);
      return value++;
    },
  });
  const values = await inTurns([turn("a"), turn("b")], { rounds: 2, warmUp: true });
  const round = ["before a", "a", "before b", "b"];
  assert.deepEqual(order, [...round, ...round, ...round]);
  assert.deepEqual(
    [...values],
    [
      ["a", [2, 4]],
      ["b", [3, 5]],
    ],
  );
});

test("a check fails when a ratio is under half of the recorded one, and only then", () => {
  const recorded = recordedOf(report(comparison([30], [10], { atLeast: 2 })));
  const half = checkReport(report(comparison([15], [10], { atLeast: 2 })), recorded);
  assert.deepEqual([half.failed, half.compared], [[], 1]);
  const less = checkReport(report(comparison([14.9], [10], { atLeast: 2 })), recorded);
  assert.deepEqual(less.failed, ["figure"]);
  assert.match(less.lines[0] ?? "", /the ratio is 1\.49, and was 3\.00/);
});

test("where less is better a check fails when a ratio is more than twice the recorded one", () => {
  const recorded = recordedOf(report(comparison([1.2], [1], { under: 1.5 })));
  const check = (ratio: number) =>
    checkReport(report(comparison([ratio], [1], { under: 1.5 })), recorded).failed;
  assert.deepEqual([check(2.4), check(2.5)], [[], ["figure"]]);
});

test("a check says what was recorded and is not measured now", () => {
  const recorded = recordedOf(report(comparison([30], [10], { atLeast: 2 })));
  const gone = { ...comparison([], [], { atLeast: 2 }), notMeasured: "no tool" };
  const { failed, lines, compared } = checkReport(report(gone), recorded);
  assert.deepEqual([failed, compared], [[], 0]);
  assert.match(lines[0] ?? "", /not measured now: figure/);
});

test("a check does not fail on a machine that is busy with other things, and says so", () => {
  assert.equal(verdictOf([], 9), "passed");
  assert.equal(verdictOf(["figure"], 1.5), "FAILED");
  assert.equal(verdictOf(["figure"], 4.1), "not decided, at a load of 4.1 for each processor");
});

test("a check needs five rounds, the quick form alone three", () => {
  assert.equal(parseOptions(["--quick"]).rounds, 3);
  assert.equal(parseOptions(["--quick", "--check", "file"]).rounds, 5);
  assert.throws(() => parseOptions(["--check", "file", "--rounds", "4"]), /5 rounds or more/);
  assert.throws(() => parseOptions(["--rounds", "none"]), /not a number of rounds/);
  assert.throws(() => parseOptions(["--fast"]), /--fast/);
});
