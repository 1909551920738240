import assert from "node:assert/strict";
import { test } from "node:test";
import { boundMs, bucketCount, bucketOf, Latencies, percentileMs } from "./latencies.ts";

test("a duration is below the bound of its bucket, and not far below", () => {
  let before = 0;
  for (let us = 0; us < 2 ** 31; us = Math.max(us + 1, Math.floor(us * 1.07))) {
    const bucket = bucketOf(us / 1000);
    const boundUs = Math.round(boundMs(bucket) * 1000);
    assert.ok(us < boundUs && boundUs <= us * 1.25 + 1, `${us} us, bound ${boundUs} us`);
    assert.ok(bucket >= before && bucket < bucketCount, "longer is never in an earlier bucket");
    before = bucket;
  }
});

test("what cannot be is counted all the same", () => {
  assert.equal(bucketOf(-1), 0);
  assert.equal(bucketOf(1e12), bucketOf(2 ** 31 / 1000));
});

test("a percentile is at most a quarter above what it was, and never below", () => {
  const latencies = new Latencies();
  for (let at = 1; at <= 1000; at++) latencies.add(at / 10);
  for (const share of [0.5, 0.9, 0.99, 1]) {
    const exactMs = share * 100;
    const found = percentileMs(latencies.counts, share);
    assert.ok(found >= exactMs && found <= exactMs * 1.26, `${share}: ${found}, not ${exactMs}`);
  }
  assert.equal(Math.round(latencies.sumMs), 50_050);
  assert.equal(percentileMs(new Float64Array(bucketCount), 0.5), 0);
});
