import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import type { SimSummary } from "../../scripts/sim-explore.ts";
import { shrinkWorld } from "../../scripts/sim-shrink.ts";
import { MemoryFileHandle } from "../../sim/memory-file-handle.ts";
import { runWorld } from "../../sim/world/world.ts";

const script = join(import.meta.dirname, "../../scripts/sim.ts");

function sim(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  return { status, stdout, stderr };
}

test("one seed has one digest in every process, whatever ran in it before", async () => {
  await runWorld({ seed: 11 });
  const here = await runWorld({ seed: 12 });
  const there = sim("--seed", "12", "--json");
  assert.equal(there.status, 0, there.stderr);
  assert.equal(JSON.parse(there.stdout).digest, here.digest);
});

test("a trace shows what is asked, answered, failed and cut off", () => {
  const { status, stdout } = sim("--seed", "12", "--verbose");
  assert.equal(status, 0);
  for (const part of ["write", "done", "crash: ", "sync /store/logs/", "actor"]) {
    assert.ok(stdout.includes(part), part);
  }
});

test("exploring counts what it did, and every world of a range runs once", () => {
  const { status, stdout } = sim("--worlds", "4", "--from", "21", "--json");
  assert.equal(status, 0);
  const summary = JSON.parse(stdout) as SimSummary;
  assert.equal(summary.worlds, 4);
  assert.equal(summary.failures.length, 0);
  assert.ok(summary.requests >= 4 * 300 && summary.crashes >= 4);
});

test("cells that are known to be reachable and are not reached fail where they are required", () => {
  assert.equal(sim("--worlds", "1", "--from", "21", "--require-cells").status, 1);
});

test("a flush that does not sync is found, in a small world as well", async () => {
  const sync = MemoryFileHandle.prototype.sync;
  let found: { seed: number; failure: string } | undefined;
  try {
    MemoryFileHandle.prototype.sync = function (this: MemoryFileHandle) {
      return this.path.startsWith("/store/logs/") ? Promise.resolve() : sync.call(this);
    };
    for (let seed = 1; seed <= 10 && found === undefined; seed++) {
      const { failure } = await runWorld({ seed });
      if (failure !== undefined) found = { seed, failure };
    }
    assert.match(found?.failure ?? "", /must be there|breaks off|damage|cut short/);
    const limits = await shrinkWorld(found?.seed ?? 0);
    assert.ok(Object.keys(limits).length > 0);
  } finally {
    MemoryFileHandle.prototype.sync = sync;
  }
});
