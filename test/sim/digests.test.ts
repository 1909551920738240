import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { keptDigests, renewDigests } from "../../scripts/sim-digests.ts";
import { runWorld } from "../../sim/world/world.ts";

const script = join(import.meta.dirname, "../../scripts/sim.ts");

test("worlds come to the digests that are kept with the source, whatever machine runs them", async () => {
  const kept = Object.entries(keptDigests());
  assert.ok(kept.length >= 3);
  for (const [seed, expected] of kept) {
    const { digest, failure } = await runWorld({ seed: Number(seed) });
    assert.equal(failure, undefined, `seed ${seed}`);
    const again = await runWorld({ seed: Number(seed) });
    assert.equal(again.digest, digest, `seed ${seed} has two digests: not the seed alone decides`);
    assert.equal(
      digest,
      expected,
      `seed ${seed} comes to ${digest} and not to ${expected}, which sim/digests.json says. ` +
        "If the source here makes host calls in another way or order than it did, that is why: " +
        `run "${renewDigests}" and commit what it writes. If not, the machine has decided something.`,
    );
  }
});

test("where a machine stands, what it speaks and how many cores it has decides nothing", () => {
  const [seed = "", expected] = Object.entries(keptDigests())[0] ?? [];
  const env = {
    TZ: "Asia/Kathmandu",
    LC_ALL: "tr_TR.UTF-8",
    UV_THREADPOOL_SIZE: "1",
    KELPIE_NO_NATIVE: "1",
  };
  const args = ["--single-threaded", script, "--seed", seed, "--json"];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    env,
    cwd: "/",
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  assert.equal(JSON.parse(stdout).digest, expected);
});
