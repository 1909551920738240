/**
 * A check for planted bugs: worlds of the simulation, one after the other, up to the first that fails. All
 * of them take a minute of processor time. Not part of npm test, for which npm run sim does more.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runWorld } from "../../sim/world/world.ts";

const worlds = 150;

test("worlds find nothing", async () => {
  for (let seed = 1; seed <= worlds; seed++) {
    const { failure } = await runWorld({ seed });
    assert.equal(failure, undefined, `seed ${seed}`);
  }
});
