import assert from "node:assert/strict";
import { test } from "node:test";
import type { VdiEntry } from "../../src/control/calls.ts";
import type { VmSnapshotEntry } from "../../src/control/vm-shapes.ts";
import { bytesOf, runCli } from "../support/cli-run.ts";
import { FakeStore } from "../support/fake-control.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { TestVm } from "./guests.ts";
import { mustBeClean, requireLinux, runLinux, setState, state } from "./linux-guest.ts";

const skip = requireLinux();

/** Lines typed in `kelpie vm monitor`; what it shows. */
async function monitor(server: ServerProcess, vm: string, ...lines: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runCli(["vm", "monitor", vm], {
    store: new FakeStore(),
    directory: server.store,
    openLocal: async () => assert.fail("no server"),
    stdin: bytesOf(lines.map((line) => `${line}\n`).join("")),
  });
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

test("a Linux guest with two ext4 disks is saved, loaded and branched while it runs", {
  skip,
}, async (t) => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await using vm = await runLinux(server, scratch, "vm1");
  const times: string[] = [];
  const timed = (text: string): void => {
    for (const [line] of text.matchAll(/(saved|loaded) snapshot.*/g)) times.push(line);
  };

  await t.test("savevm, savevm, loadvm 1 typed in the monitor", async () => {
    await setState(vm, "one");
    timed(await monitor(server, "vm1", "savevm a"));
    await setState(vm, "two");
    timed(await monitor(server, "vm1", "savevm b"));
    await setState(vm, "three");
    timed(await monitor(server, "vm1", "loadvm 1"));
    assert.deepEqual(await state(vm), ["one", "one", "one"]);
    await mustBeClean(vm);
    const listed = await monitor(server, "vm1", "info snapshots");
    assert.match(listed, /^ID .*\n1 +a .*\n2 +b .*\n$/);
  });

  await t.test(
    "the disks' working VDIs stand on the first snapshot, and there is no third",
    async () => {
      for (const disk of ["root", "data"]) {
        const list = (await server.json("vdi", "list", disk)) as VdiEntry[];
        assert.deepEqual(
          list.map(({ kind, tag }) => [kind, tag]),
          [
            ["snapshot", "a"],
            ["snapshot", "b"],
            ["working", ""],
          ],
        );
        const [a, b, working] = list;
        assert.deepEqual([b?.parent, working?.parent], [a?.point, a?.point]);
        assert.deepEqual([a?.vm, b?.vm, working?.vm], ["vm1", "vm1", "vm1"]);
      }
    },
  );

  await t.test("forwards again, and back", async () => {
    timed(await monitor(server, "vm1", "loadvm b"));
    assert.deepEqual(await state(vm), ["two", "two", "two"]);
    await mustBeClean(vm);
    timed(await monitor(server, "vm1", "loadvm a"));
    assert.deepEqual(await state(vm), ["one", "one", "one"]);
  });

  await t.test("a snapshot taken under a write load is of one moment on both disks", async () => {
    const loop = "i=$((i+1)); echo $i >/a/load; cp /bin/busybox /a/big; echo $i >/b/load; sync";
    await vm.shell(`i=0; (while :; do ${loop}; done) & sleep 1`);
    timed(await monitor(server, "vm1", "savevm load"));
    await vm.shell("sleep 1");
    timed(await monitor(server, "vm1", "loadvm load"));
    await vm.shell("kill $!; wait; true");
    const loads = await vm.shell("echo load $(cat /a/load /b/load)");
    const [, a = "", b = ""] = /^load (\d+) (\d+)$/m.exec(loads) ?? [];
    const apart = Number(a) - Number(b);
    assert.ok(apart === 0 || apart === 1, `${a} on one disk, ${b} on the other`);
    await mustBeClean(vm);
    assert.deepEqual(await state(vm), ["one", "one", "one"]);
  });

  await t.test("a branch goes on from the same moment, and both go their own way", async () => {
    await server.ok("vm", "branch", "vm1", "b", "vm2");
    await using second = await TestVm.of(server, "vm2");
    assert.deepEqual(await state(second), ["two", "two", "two"]);
    await setState(second, "branch");
    await setState(vm, "trunk");
    assert.deepEqual(await state(second), ["branch", "branch", "branch"]);
    assert.deepEqual(await state(vm), ["trunk", "trunk", "trunk"]);
    await mustBeClean(second);
    await mustBeClean(vm);
    // It can be saved and loaded as any other.
    timed(await monitor(server, "vm2", "savevm mine"));
    await setState(second, "later");
    timed(await monitor(server, "vm2", "loadvm mine"));
    assert.deepEqual(await state(second), ["branch", "branch", "branch"]);
  });

  await t.test("delvm gives disks' snapshots and memory back together", async () => {
    await vm.vm("delvm", "load");
    const left = (await server.json("vm", "snapshots", "vm1")) as VmSnapshotEntry[];
    assert.deepEqual(
      left.map(({ tag }) => tag),
      ["a", "b"],
    );
    assert.equal(((await server.json("vdi", "list", "root")) as VdiEntry[]).length, 3);
    timed(await monitor(server, "vm1", "loadvm a"));
    assert.deepEqual(await state(vm), ["one", "one", "one"]);
    await mustBeClean(vm);
  });

  const slow = times.filter((line) => Number(/, ([\d.]+) s/.exec(line)?.[1]) >= 1);
  console.log(`» 256 MiB guest: ${times.join("; ")}`);
  t.diagnostic(`${slow.length} of ${times.length} took a second or more`);
  await server.ok("store", "check");
});
