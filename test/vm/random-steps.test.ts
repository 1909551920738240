import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import type { VmSnapshotEntry } from "../../src/control/vm-shapes.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { isSoak } from "../support/soak.ts";
import { requireTool } from "../support/tools.ts";
import { makeBootDisks, runBootGuest, TestVm } from "./guests.ts";

const skip = requireTool("qemu-system-x86_64", "qemu-system-x86");
const steps = isSoak ? 100 : 8;
const seed = 1;
/** More would only take longer. */
const snapshotsMax = 6;

/** A letter in memory and on both disks; the ring of sectors agrees with what memory says of it. */
async function mustHold(vm: TestVm, letter: string, what: string): Promise<void> {
  vm.line.send("?");
  const said = await vm.line.expect(/c=\S+ v=. d=.*\n/);
  assert.match(said, new RegExp(`v=${letter} d=${letter}${letter}\\n$`), what);
  vm.line.send("v");
  assert.match(await vm.line.expect(/(good|bad)\n/), /good/, what);
}

async function keep(vm: TestVm, letter: string): Promise<void> {
  vm.line.send(`s${letter}`);
  await vm.line.expect(/ok\n/);
}

test(`${steps} random steps under a write load leave everything as recorded`, {
  skip,
}, async (t) => {
  const random = new SeededRandom(seed);
  const pick = <T>(all: readonly T[]): T => all[random.below(all.length)] as T;
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await makeBootDisks(server, "d0", "d1");
  await using vm = await runBootGuest(server, "vm1", ["d0", "d1"]);
  vm.line.send("l");
  await vm.line.expect(/ok\n/);
  const saved = new Map<string, string>();
  let letter = "A";
  await keep(vm, letter);
  const counts: Record<string, number> = {};
  for (let step = 0; step < steps; step++) {
    const tags = [...saved.keys()];
    const choices = tags.length === 0 ? ["savevm"] : ["loadvm", "loadvm", "delvm", "branch"];
    if (tags.length > 0 && tags.length < snapshotsMax) choices.push("savevm", "savevm");
    const kind = pick(choices);
    counts[kind] = (counts[kind] ?? 0) + 1;
    const what = `seed ${seed}, step ${step}, ${kind}`;
    const tag = kind === "savevm" ? `t${step}` : pick(tags);
    if (kind === "branch") {
      await server.ok("vm", "branch", "vm1", tag, "vm2");
      const second = await TestVm.of(server, "vm2");
      try {
        await mustHold(second, saved.get(tag) ?? "", what);
        await keep(second, "Z");
        await mustHold(second, "Z", what);
      } finally {
        await second[Symbol.asyncDispose]();
      }
      await server.ok("vm", "delete", "vm2", "--disks");
    } else await vm.vm(kind, tag);
    if (kind === "savevm") saved.set(tag, letter);
    if (kind === "delvm") saved.delete(tag);
    if (kind === "loadvm") letter = saved.get(tag) ?? "";
    await mustHold(vm, letter, what);
    letter = String.fromCharCode(65 + random.below(25));
    await keep(vm, letter);
  }
  const listed = (await server.json("vm", "snapshots", "vm1")) as VmSnapshotEntry[];
  assert.deepEqual(listed.map(({ tag }) => tag).sort(), [...saved.keys()].sort());
  for (const [tag, expected] of saved) {
    await vm.vm("loadvm", tag);
    await mustHold(vm, expected, `at the end, ${tag}`);
  }
  assert.match(await server.ok("store", "check"), /no damage/);
  t.diagnostic(JSON.stringify(counts));
});
