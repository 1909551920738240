import assert from "node:assert/strict";
import { test } from "node:test";
import type { VmSnapshotEntry } from "../../src/control/vm-shapes.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, tryTool } from "../support/tools.ts";
import { bootArguments, makeBootDisks, TestVm, untilReady } from "./guests.ts";

const noQemu = requireTool("qemu-system-x86_64", "qemu-system-x86");

/** Less than the guest's memory, more than everything else takes. */
const fileSystemBytes = 160 * 2 ** 20;

test("no space for the memory: savevm is refused, and the VM runs on as it was", {
  skip: noQemu,
}, async (t) => {
  await using scratch = await Scratch.create();
  const options = ["-t", "tmpfs", "-o", `size=${fileSystemBytes}`];
  const { status } = await tryTool("mount", [...options, "kelpie-test", scratch.path]);
  if (status !== 0) {
    t.skip("mounting a small tmpfs takes root");
    return;
  }
  try {
    await using server = await ServerProcess.start(scratch.file("store"));
    await makeBootDisks(server, "d0", "d1");
    const disks = ["d0", "d1"];
    await using vm = await TestVm.run(server, "vm1", { disks, more: bootArguments });
    await untilReady(vm);
    vm.line.send("sA");
    await vm.line.expect(/ok\n/);
    const failed = await server.cli("vm", "savevm", "vm1", "large");
    assert.equal(failed.exitCode, 4);
    assert.match(failed.stderr, /the memory of VM "vm1" may take up to 256 MiB/);
    // It runs on, and there is room for what it writes.
    vm.line.send("sB");
    await vm.line.expect(/ok\n/);
    vm.line.send("?");
    await vm.line.expect(/c=\S+ v=B d=BB\n/);
    const left = (await server.json("vm", "snapshots", "vm1")) as VmSnapshotEntry[];
    assert.deepEqual(left, []);
    assert.match(await server.ok("store", "check"), /no damage/);
  } finally {
    const { status: left, stderr } = await tryTool("umount", [scratch.path]);
    assert.equal(left, 0, stderr);
  }
});
