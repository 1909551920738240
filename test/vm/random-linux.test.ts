import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import type { VmSnapshotEntry } from "../../src/control/vm-shapes.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { isSoak } from "../support/soak.ts";
import { TestVm } from "./guests.ts";
import { mustBeClean, requireLinux, runLinux } from "./linux-guest.ts";

const skip = requireLinux();
const steps = isSoak ? 100 : 5;
const seed = 1;
/** More would only take longer. */
const snapshotsMax = 6;
/** Of random bytes on each disk, so that what belongs to another moment is seen. */
const blobKiB = 512;

/** Changes memory and both disks, partly not written out yet; the contents are then as recorded. */
async function change(vm: TestVm, word: string): Promise<string> {
  const blob = (disk: string) => {
    return `dd if=/dev/urandom of=/${disk}/blob bs=1k count=${blobKiB} 2>/dev/null`;
  };
  await vm.shell(`state=${word}; echo $state >/a/file; echo $state >/b/file`);
  await vm.shell(`${blob("a")} && ${blob("b")} && sum=$(md5sum </a/blob)`);
  return await contents(vm);
}

/** What memory and disks hold, the latter read from the disks. */
async function contents(vm: TestVm): Promise<string> {
  await vm.shell("echo 3 >/proc/sys/vm/drop_caches");
  const all = "$state $(cat /a/file) $(cat /b/file) $sum $(md5sum </a/blob) $(md5sum </b/blob)";
  return (await vm.shell(`echo ${all}`)).trim();
}

test(`${steps} random steps leave a Linux guest's memory and file systems as recorded`, {
  skip,
}, async (t) => {
  const random = new SeededRandom(seed);
  const pick = <T>(all: readonly T[]): T => all[random.below(all.length)] as T;
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await using vm = await runLinux(server, scratch, "vm1");
  const saved = new Map<string, string>();
  const counts: Record<string, number> = {};
  let cleanChecks = 0;
  let now = await change(vm, "begin");
  const mustBe = async (guest: TestVm, expected: string | undefined, what: string) => {
    assert.equal(await contents(guest), expected, what);
    await mustBeClean(guest);
    cleanChecks++;
  };
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
        await mustBe(second, saved.get(tag), what);
        await change(second, "branch");
        await mustBeClean(second);
      } finally {
        await second[Symbol.asyncDispose]();
      }
      await server.ok("vm", "delete", "vm2", "--disks");
    } else await vm.vm(kind, tag);
    if (kind === "savevm") saved.set(tag, now);
    if (kind === "delvm") saved.delete(tag);
    if (kind === "loadvm") now = saved.get(tag) ?? "";
    await mustBe(vm, now, what);
    now = await change(vm, `step${step}`);
  }
  const listed = (await server.json("vm", "snapshots", "vm1")) as VmSnapshotEntry[];
  assert.deepEqual(listed.map(({ tag }) => tag).sort(), [...saved.keys()].sort());
  for (const [tag, expected] of saved) {
    await vm.vm("loadvm", tag);
    await mustBe(vm, expected, `at the end, ${tag}`);
  }
  assert.match(await server.ok("store", "check"), /no damage/);
  t.diagnostic(`${JSON.stringify(counts)}; both file systems were clean ${cleanChecks} times`);
});
