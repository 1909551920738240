import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { forEachInFlight } from "./pipeline.ts";

test("a failure while the next item is waited for is thrown, and crashes nothing", async (t) => {
  const unhandled = t.mock.fn();
  process.on("unhandledRejection", unhandled);
  async function* slow() {
    yield 1;
    for (let turn = 0; turn < 5; turn++) await setImmediate();
    yield 2;
  }
  const failing = forEachInFlight(slow(), async (item) => {
    throw new Error(`item ${item}`);
  });
  await assert.rejects(failing, /item 1/);
  process.off("unhandledRejection", unhandled);
  assert.equal(unhandled.mock.callCount(), 0);
});
