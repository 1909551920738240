import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { runTestFile } from "../../scripts/test-file.ts";
import { allMutants } from "./all-mutants.ts";
import { hunt } from "./hunt.ts";
import { plant } from "./mutant.ts";
import { checkout, ScratchCheckout } from "./scratch-checkout.ts";

/** Of several layers, each found in a second by the test beside its file. */
const samples = [
  "a cut does not end the segment",
  "a batch header's checksum is not checked",
  "two ranges that touch in one place do not conflict",
];

const { signal } = new AbortController();
let scratch: ScratchCheckout | undefined;
after(() => scratch?.remove());

test("every planted bug has its place in the source, and a name of its own", () => {
  for (const mutant of allMutants) plant(mutant, readFileSync(join(checkout, mutant.file), "utf8"));
  assert.equal(new Set(allMutants.map(({ name }) => name)).size, allMutants.length);
  assert.ok(allMutants.length >= 30);
});

for (const name of samples) {
  test(`"${name}" is found when it is planted in a copy, and only then`, async () => {
    const mutant = allMutants.find((candidate) => candidate.name === name) ?? assert.fail();
    const before = readFileSync(join(checkout, mutant.file), "utf8");
    scratch ??= new ScratchCheckout();
    const { foundBy } = await hunt(mutant, scratch, { signal });
    assert.ok(foundBy !== undefined);
    assert.equal(foundBy.check, "beside");
    const { directory } = scratch;
    const without = await runTestFile(foundBy.path, {
      limitMs: 60_000,
      nodeOptions: [],
      signal,
      directory,
    });
    assert.equal(without.complaint, undefined);
    assert.ok(without.reports.every(({ event }) => event === "pass"));
    assert.equal(readFileSync(join(checkout, mutant.file), "utf8"), before);
  });
}
