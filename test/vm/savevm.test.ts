import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { VmEntry, VmSnapshotEntry } from "../../src/control/vm-shapes.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { connectQmp } from "../../src/qmp/client.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { isSoak } from "../support/soak.ts";
import { requireTool } from "../support/tools.ts";
import { bootArguments, makeBootDisks, runBootGuest, TestVm, untilReady } from "./guests.ts";
import { SerialLine } from "./serial-line.ts";

const skip = requireTool("qemu-system-x86_64", "qemu-system-x86");
const host = createNodeHost({ logLevel: "silent" });

/** What the small guest keeps: the letter in memory and those on its disks. */
async function letters(vm: TestVm): Promise<string> {
  vm.line.send("?");
  const said = await vm.line.expect(/c=\S+ v=. d=.*\n/);
  return said.replace(/^[\s\S]*v=(.) d=(.*)\n$/, "$1$2");
}

/** It keeps a letter everywhere. */
async function keep(vm: TestVm, letter: string): Promise<void> {
  vm.line.send(`s${letter}`);
  await vm.line.expect(/ok\n/);
}

async function snapshots(server: ServerProcess, name: string): Promise<VmSnapshotEntry[]> {
  return (await server.json("vm", "snapshots", name)) as VmSnapshotEntry[];
}

async function stateOf(server: ServerProcess, name: string): Promise<string | undefined> {
  return ((await server.json("vm", "list")) as VmEntry[]).find((vm) => vm.name === name)?.state;
}

test("Kelpie is killed at any moment of savevm and loadvm, and brings the VM in order", {
  skip,
}, async (t) => {
  await using scratch = await Scratch.create();
  const store = scratch.file("store");
  let server = await ServerProcess.start(store);
  try {
    await makeBootDisks(server, "d0", "d1");
    await using vm = await runBootGuest(server, "vm1", ["d0", "d1"]);
    await keep(vm, "A");
    await vm.vm("savevm", "a");
    let finished = 0;
    for (let round = 0; round < (isSoak ? 40 : 6); round++) {
      await keep(vm, "B");
      const before = (await snapshots(server, "vm1")).length;
      const loads = round % 2 === 1;
      const args = loads ? ["loadvm", "vm1", "a"] : ["savevm", "vm1", `r${round}`];
      const running = server.cli("vm", ...args);
      // Every round a little later, from before the guest stands still to after it has gone on.
      await sleep(40 + round * 60);
      await server.stop("SIGKILL");
      const { exitCode } = await running;
      if (exitCode === 0) finished++;
      server = await ServerProcess.start(store);
      // Its QEMU reconnects, is brought in order, and goes on. What is typed before is lost with the state.
      await untilReady(vm);
      const is = await letters(vm);
      const saved = (await snapshots(server, "vm1")).length;
      if (loads) assert.ok(is === "AAA" || is === "BBB", `round ${round}: ${is}`);
      else assert.equal(is, "BBB", `round ${round}`);
      assert.ok(saved === before || (!loads && saved === before + 1), `round ${round}`);
      if (exitCode === 0) assert.equal(loads ? is === "AAA" : saved === before + 1, true);
    }
    t.diagnostic(`${finished} were done before the kill came`);
    await vm.vm("loadvm", "a");
    assert.equal(await letters(vm), "AAA");
    await server.ok("store", "check");
  } finally {
    await server.stop("SIGKILL");
  }
});

test("QEMU is killed: the disks are as they were, and it starts again and loads", {
  skip,
}, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await makeBootDisks(server, "d0", "d1");
  const vm = await runBootGuest(server, "vm1", ["d0", "d1"]);
  await keep(vm, "A");
  await vm.vm("savevm", "a");
  await keep(vm, "B");
  const pid = Number(readFileSync(`${server.store}/vm/vm1/qemu.pid`, "utf8"));
  const loading = server.cli("vm", "loadvm", "vm1", "a");
  await sleep(60);
  process.kill(pid, "SIGKILL");
  await loading;
  await vm.line[Symbol.asyncDispose]();
  for (let wait = 0; (await stateOf(server, "vm1")) !== "off"; wait++) {
    assert.ok(wait < 50, "it is off");
    await sleep(100);
  }
  assert.notEqual((await server.cli("vm", "savevm", "vm1")).exitCode, 0);
  await server.ok("vm", "run", "vm1");
  await using again = await TestVm.of(server, "vm1");
  await untilReady(again);
  const fresh = await letters(again);
  assert.ok(fresh === "-BB" || fresh === "-AA", fresh);
  await again.vm("loadvm", "a");
  assert.equal(await letters(again), "AAA");
  await keep(again, "C");
  await again.vm("savevm", "c");
  await again.vm("stop", "--force");
  await again.line[Symbol.asyncDispose]();

  // A machine with more memory cannot take the state: it goes on as it was, and so do its disks.
  await server.ok("vm", "run", "vm1", "--memory", "96M");
  await using larger = await TestVm.of(server, "vm1");
  await untilReady(larger);
  await keep(larger, "D");
  const failed = await server.cli("vm", "loadvm", "vm1", "a");
  assert.match(failed.stderr, /loading the memory failed: .*; the VM is as it was/s);
  assert.equal(await letters(larger), "DDD");
  await server.ok("store", "check");
});

test("under a write load memory and disks are of one moment", { skip }, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await makeBootDisks(server, "d0", "d1");
  await using vm = await runBootGuest(server, "vm1", ["d0", "d1"]);
  await vm.line.ask("l");
  for (const tag of ["a", "b", "c"]) {
    await vm.vm("savevm", tag);
    await sleep(50);
  }
  for (const tag of ["b", "c", "a"]) {
    await vm.vm("loadvm", tag);
    assert.equal(await vm.line.ask("v"), "good", tag);
  }
  await vm.line.ask("L");
  assert.equal(await vm.line.ask("v"), "good");
});

test("drives that are not Kelpie's, that nobody writes, and a QEMU that somebody else started", {
  skip,
}, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await makeBootDisks(server, "d0");
  const plain = scratch.file("plain.raw");
  await writeFile(plain, Buffer.alloc(2 ** 20));
  const file = (name: string, readOnly: boolean) => {
    const node = { driver: "file", filename: plain, "node-name": name, "read-only": readOnly };
    return ["-blockdev", JSON.stringify(node), "-device", `virtio-blk-pci,drive=${name}`];
  };
  const nbd = { type: "unix", path: `${server.store}/nbd.sock` };
  const disk = { driver: "nbd", "node-name": "root", export: "d0", server: nbd };
  const qmp = scratch.file("qmp");
  const begin = async (...more: string[]) => {
    const child = spawn(
      "qemu-system-x86_64",
      [
        ...["-m", "64", "-display", "none", ...bootArguments, "-qmp", `unix:${qmp},server=on`],
        ...["-serial", `unix:${scratch.file("serial")},server=on,wait=off`],
        ...["-blockdev", JSON.stringify(disk), "-device", "virtio-blk-pci,drive=root,bootindex=1"],
        ...more,
      ],
      { stdio: "ignore" },
    );
    // QEMU waits for its monitor's first client.
    await using line = await SerialLine.connect(qmp);
    await line.expect(/QMP/);
    return child;
  };
  const attach = ["vm", "attach", "vm1", "--qmp", `unix:${qmp}`];
  let child = await begin(...file("scratch", false));
  try {
    const refused = await server.cli(...attach);
    assert.equal(refused.exitCode, 1);
    assert.match(refused.stderr, /drive "scratch" of VM "vm1" is not a disk of this store/);
    await server.ok(...attach, "--leave-out", "scratch");
    await server.ok("vm", "savevm", "vm1", "a");
    await server.ok("vm", "loadvm", "vm1", "a");
    const branch = await server.cli("vm", "branch", "vm1", "a", "vm2");
    assert.match(branch.stderr, /Kelpie did not start VM "vm1"/);
    await server.ok("vm", "stop", "vm1", "--force");
    child = await begin(...file("media", true));
    await server.ok(...attach);
    await server.ok("vm", "savevm", "vm1", "b");
    await server.ok("vm", "stop", "vm1", "--force");
  } finally {
    child.kill("SIGKILL");
  }
});

test("a VM goes over to another QEMU on the same disk while it runs", { skip }, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await makeBootDisks(server, "d0", "d1");
  await using vm = await runBootGuest(server, "vm1", ["d0", "d1"]);
  await keep(vm, "A");
  const socket = `unix:${scratch.file("migration")}`;
  const disks = ["--disk", "d0,d1", "--share"];
  const more = ["--", ...bootArguments, "-incoming", socket];
  await server.ok("vm", "run", "vm2", "--memory", "64M", ...disks, ...more);
  const connect = async (name: string) => {
    const address = { kind: "unix", path: `${server.store}/vm/${name}/qmp.sock` } as const;
    return await connectQmp({ address, name }, host);
  };
  const source = await connect("vm1");
  await source.execute("migrate", { uri: socket });
  for (;;) {
    const { status } = (await source.execute("query-migrate")) as { status: string };
    assert.notEqual(status, "failed");
    if (status === "completed") break;
    await sleep(20);
  }
  source.close();
  await server.ok("vm", "stop", "vm1", "--force");
  await using second = await TestVm.of(server, "vm2");
  const target = await connect("vm2");
  await target.execute("cont");
  target.close();
  assert.equal(await letters(second), "AAA");
  await keep(second, "B");
  assert.equal(await letters(second), "BBB");
  await server.ok("vm", "delete", "vm1");
  await second.vm("savevm", "a");
  await keep(second, "C");
  await second.vm("loadvm", "a");
  assert.equal(await letters(second), "BBB");
});
