import assert from "node:assert/strict";
import { after, test } from "node:test";
import { calls } from "../../src/control/calls.ts";
import { Apart } from "../support/apart.ts";
import { isSoak } from "../support/soak.ts";
import { callCases, namedCases } from "./call-cases.ts";
import { type FailAtNCounts, noFailures } from "./fail-at-n.ts";
import { lifecycles } from "./fail-lifecycle.ts";
import type { FailWork } from "./fail-work.ts";

const seed = Number(process.env.KELPIE_FAIL_SEED ?? 1);
const settings = { seed, goOnEvery: isSoak ? 1 : 4 };

const apart = new Apart<FailWork, FailAtNCounts>(new URL("fail-work.ts", import.meta.url));
const total = { ...noFailures };
after(() => console.log(`» fail-at-n, seed ${seed}: ${textOf(total)}`));

test("every call of control/ has a case", () => {
  assert.deepEqual(Object.keys(callCases).sort(), Object.keys(calls).sort());
  for (const [name, cases] of Object.entries(callCases)) assert.ok(cases.length > 0, name);
});

for (const title of [...namedCases.map((one) => one.title), ...Object.keys(lifecycles)]) {
  test(`${title} is done or not done, whichever host call fails`, async () => {
    const counts = await apart.run({ title, settings });
    for (const key of Object.keys(total) as (keyof FailAtNCounts)[]) total[key] += counts[key];
    console.log(`${title}: ${textOf(counts)}`);
  });
}

function textOf(counts: FailAtNCounts): string {
  const { hostCalls, failures, succeeded, refused, mustReopen } = counts;
  return (
    `${hostCalls} host calls, ${failures} failures: ${succeeded} times it succeeded all the same, ` +
    `${refused} times it failed and nothing was done, ${mustReopen} times a disk had to be opened ` +
    "again"
  );
}
