import assert from "node:assert/strict";
import { test } from "node:test";
import { runWorld } from "../../sim/world/world.ts";

test("a few worlds find nothing wrong, and each is the same when it runs again", async () => {
  for (const seed of [1, 2, 3]) {
    const first = await runWorld({ seed });
    assert.equal(first.failure, undefined, `seed ${seed}`);
    assert.ok(first.counts, `seed ${seed} does what a world must do to count`);
    const again = await runWorld({ seed });
    assert.equal(again.digest, first.digest, `seed ${seed}`);
  }
});
