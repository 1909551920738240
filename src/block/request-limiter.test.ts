import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualTimers } from "../../test/support/manual-timers.ts";
import { RequestLimiter } from "./request-limiter.ts";

/** A limiter in time that passes when told, a millisecond at a time. */
function inTime() {
  const timers = new ManualTimers();
  let nowMs = 5000;
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  const limiter = new RequestLimiter({ clock, timers });
  const pass = async (durationMs: number) => {
    for (let ms = 0; ms < durationMs; ms++) {
      nowMs++;
      timers.advance(1);
      await Promise.resolve();
    }
  };
  return { limiter, timers, pass };
}

/** Keeps 32 requests waiting, and counts those that went. */
function hungry(limiter: RequestLimiter, bytes: number): { done: number; stop: boolean } {
  const count = { done: 0, stop: false };
  const one = async () => {
    while (!count.stop) {
      await limiter.admit(bytes);
      count.done++;
    }
  };
  for (let n = 0; n < 32; n++) void one();
  return count;
}

test("without limits nothing waits", () => {
  const { limiter, timers } = inTime();
  for (let n = 0; n < 1000; n++) assert.equal(limiter.admit(2 ** 20), undefined);
  assert.equal(timers.pending, 0);
});

test("a thousand requests a second are a thousand, and what was saved up", async () => {
  const { limiter, pass } = inTime();
  limiter.set({ opsPerSecond: 1000, burstMs: 100 });
  const count = hungry(limiter, 4096);
  await pass(10_000);
  assert.ok(count.done >= 10_000 && count.done <= 10_110, `${count.done} in ten seconds`);
  count.stop = true;
});

test("bytes count, and a request larger than a second's worth goes and is paid for", async () => {
  const { limiter, pass } = inTime();
  limiter.set({ bytesPerSecond: 2 ** 20, burstMs: 100 });
  const count = hungry(limiter, 4 * 2 ** 20);
  await pass(1);
  assert.equal(count.done, 1);
  await pass(3890);
  assert.equal(count.done, 1);
  await pass(30);
  assert.equal(count.done, 2);
  count.stop = true;
});

test("requests go in the order in which they came", async () => {
  const { limiter, pass } = inTime();
  limiter.set({ opsPerSecond: 100, burstMs: 10 });
  const order: number[] = [];
  for (let n = 0; n < 20; n++) {
    void Promise.resolve(limiter.admit(n % 2 === 0 ? 2 ** 20 : 1)).then(() => order.push(n));
  }
  await pass(300);
  assert.deepEqual(order, [...Array(20).keys()]);
});

test("a limit is changed while requests wait for it, and lifted", async () => {
  const { limiter, timers, pass } = inTime();
  limiter.set({ opsPerSecond: 1, burstMs: 100 });
  const count = hungry(limiter, 0);
  await pass(2000);
  assert.ok(count.done <= 3, `${count.done}`);
  limiter.set({ opsPerSecond: 500, burstMs: 100 });
  const before = count.done;
  await pass(1000);
  assert.ok(count.done - before >= 500 && count.done - before <= 560, `${count.done - before}`);
  count.stop = true;
  limiter.set(undefined);
  await pass(1);
  assert.equal(limiter.waiting, 0);
  assert.equal(timers.pending, 0, "a timer was left behind");
});

test("what is not used is saved up to the burst and no further", async () => {
  const { limiter, pass } = inTime();
  limiter.set({ opsPerSecond: 1000, burstMs: 50 });
  await pass(60_000);
  let atOnce = 0;
  while (limiter.admit(0) === undefined) atOnce++;
  assert.equal(atOnce, 50);
});
