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

test("in some worlds the disk is full, and then is not", async () => {
  const lines: string[] = [];
  const report = await runWorld({ seed: 1, print: (line) => lines.push(line) });
  assert.equal(report.failure, undefined);
  assert.ok(lines.some((line) => line.endsWith("the disk is full")));
  assert.ok(Object.keys(report.cells).some((cell) => cell.endsWith("| full")));
});
