import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, mock } from "node:test";
import { createNodeLog } from "./log.ts";
import { createNodeHost } from "./node-host.ts";
import { createNodeTimers } from "./timers.ts";

describe("the real host", () => {
  it("has a clock that goes on, and random bytes that differ", async () => {
    const { clock, timers, random } = createNodeHost({ logLevel: "silent" });
    const startMs = clock.monotonicMs();
    await timers.sleep(20);
    const elapsedMs = clock.monotonicMs() - startMs;
    assert.ok(elapsedMs >= 19 && elapsedMs < 5_000, `${elapsedMs} ms`);
    assert.ok(Math.abs(clock.nowMs() - Date.now()) < 1_000);
    assert.equal(random.bytes(16).byteLength, 16);
    assert.notDeepEqual(random.bytes(16), random.bytes(16));
  });

  it("runs what is to run soon in a later turn", async () => {
    const { timers } = createNodeHost({ logLevel: "silent" });
    const seen: string[] = [];
    const ran = new Promise<void>((resolve) => {
      timers.soon(() => {
        seen.push("soon");
        resolve();
      });
    });
    seen.push("now");
    await Promise.resolve();
    seen.push("microtask");
    await ran;
    assert.deepEqual(seen, ["now", "microtask", "soon"]);
  });
});

describe("timers", () => {
  it("fire once after their delay, even one longer than the system counts, unless cancelled", () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      const timers = createNodeTimers();
      const countedMs = 2 ** 31 - 1;
      const fortyDaysMs = 40 * 86_400_000;
      let fired = 0;
      timers.after(fortyDaysMs, () => {
        fired += 1;
      });
      const cancelled = timers.after(fortyDaysMs, () => assert.fail("it was cancelled"));
      mock.timers.tick(countedMs);
      assert.equal(fired, 0);
      cancelled.cancel();
      mock.timers.tick(fortyDaysMs - countedMs - 1);
      assert.equal(fired, 0);
      mock.timers.tick(1);
      assert.equal(fired, 1);
      mock.timers.tick(fortyDaysMs);
      assert.equal(fired, 1);
    } finally {
      mock.timers.reset();
    }
  });
});

describe("the log", () => {
  it("writes one line of JSON per event from its level on, errors with their code", async () => {
    const directory = await mkdtemp(join(tmpdir(), "kelpie-log-"));
    const path = join(directory, "log");
    const fd = openSync(path, "w");
    const log = createNodeLog({ level: "info", fd });
    log.debug("not written");
    log.info("started", { port: 10809 });
    log.error("sync failed", { error: new TypeError("because") });
    const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
    closeSync(fd);
    await rm(directory, { recursive: true });
    const [first, second] = lines.map((line) => JSON.parse(line));
    assert.equal(lines.length, 2);
    assert.deepEqual([first.level, first.msg, first.port], ["info", "started", 10809]);
    assert.match(first.time, /^\d{4}-\d\d-\d\dT/);
    assert.deepEqual([second.level, second.error.message], ["error", "because"]);
  });
});
