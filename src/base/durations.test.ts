import assert from "node:assert/strict";
import { test } from "node:test";
import { formatClock, parseDuration } from "./durations.ts";
import { isKelpieError } from "./errors.ts";

test("durations are read as people write them", () => {
  assert.equal(parseDuration("0"), 0);
  assert.equal(parseDuration("0s"), 0);
  assert.equal(parseDuration("500ms"), 500);
  assert.equal(parseDuration("90s"), 90_000);
  assert.equal(parseDuration("15m"), 900_000);
  assert.equal(parseDuration("1.5h"), 5_400_000);
  assert.equal(parseDuration("2d"), 172_800_000);
});

test("what is no duration is refused", () => {
  for (const text of ["", "5", "-1h", "1y", "h", "1h30m", "999999999d", "1e3s"]) {
    assert.throws(
      () => parseDuration(text),
      (error) => isKelpieError(error, "invalid"),
      text,
    );
  }
});

test("a time left reads like a clock", () => {
  assert.equal(formatClock(0), "0:00");
  assert.equal(formatClock(6_100), "0:07");
  assert.equal(formatClock(205_000), "3:25");
  assert.equal(formatClock(3_729_000), "1:02:09");
});
