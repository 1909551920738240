import assert from "node:assert/strict";
import { test } from "node:test";
import { meterKind } from "../../block/request-meter.ts";
import { silentLog } from "../../host/log.ts";
import type { Timers } from "../../host/timers.ts";
import { StatisticsHistory, stepCount, stepMs } from "./history.ts";
import { Meters, metersMax, otherExports } from "./meters.ts";

/** One in a step, as it is kept. */
const fifth = Math.fround(0.2);

/** A history whose steps the test takes, each as long as it should be. */
function start() {
  let nowMs = 1_000_000;
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  const never: Timers = { after: () => ({ cancel() {} }), sleep: async () => {}, soon: () => {} };
  const meters = new Meters({}, { clock, log: silentLog });
  const history = new StatisticsHistory({ meters, clock, timers: never });
  const step = () => {
    nowMs += stepMs;
    history.step();
  };
  return { meters, history, step };
}

test("rates are per second, of each export and of all together", () => {
  const { meters, history, step } = start();
  const a = meters.of("a", "nbd");
  const sheepdog = meters.of("a", "sheepdog");
  for (let at = 0; at < 50; at++) a.done(meterKind.read, 4096, 1);
  for (let at = 0; at < 10; at++) sheepdog.done(meterKind.write, 512, 8);
  meters.of("b", "nbd").failed(meterKind.trim, 1);
  step();
  const { total, exports } = history.latest();
  assert.deepEqual([total.readOps, total.writeOps, total.otherOps], [10, 2, fifth]);
  assert.equal(total.errors, fifth, "that is the trim");
  const found = exports.find(({ name }) => name === "a");
  assert.deepEqual([found?.readOps, found?.readBytes, found?.writeBytes], [10, 40960, 1024]);
  assert.ok((found?.p50Ms ?? 0) >= 1 && (found?.p50Ms ?? 0) <= 1.3);
  assert.ok((found?.p99Ms ?? 0) >= 8 && (found?.p99Ms ?? 0) <= 10);
});

test("what is idle is not named, and its record goes on", () => {
  const { meters, history, step } = start();
  meters.of("a", "nbd").done(meterKind.write, 4096, 1);
  step();
  step();
  assert.deepEqual(history.latest().exports, []);
  assert.equal(history.latest().total.writeOps, 0);
  assert.deepEqual(history.series("a").series.writeOps, [fifth, 0]);
  assert.deepEqual(history.series("unheard of").series.writeOps, [0, 0]);
});

test("an hour is kept, and no more", () => {
  const { meters, history, step } = start();
  const { fromMs } = history.series(undefined);
  const meter = meters.of("a", "nbd");
  for (let at = 0; at < stepCount + 3; at++) {
    for (let request = 0; request < 5; request++) meter.done(meterKind.read, 1, 1);
    if (at === stepCount + 2) meter.done(meterKind.flush, 0, 1);
    step();
  }
  const { series, fromMs: laterMs } = history.series(undefined);
  assert.equal(series.readOps.length, stepCount);
  assert.ok(series.readOps.every((value) => value === 1));
  assert.equal(series.otherOps.at(-1), fifth);
  assert.equal(laterMs - fromMs, 3 * stepMs);
});

test("too many exports are counted together, and their requests are not lost", () => {
  const { meters, history, step } = start();
  for (let at = 0; at < metersMax; at++) meters.of(`d${at}`, "nbd");
  const more = meters.of("one more", "nbd");
  assert.equal(more.exportName, otherExports);
  assert.equal(meters.of("d0", "nbd").exportName, "d0");
  for (let request = 0; request < 5; request++) more.done(meterKind.read, 1, 1);
  step();
  assert.equal(history.latest().total.readOps, 1);
});
