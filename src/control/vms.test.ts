import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FakeQemu } from "../../test/support/fake-qemu.ts";
import {
  asIfStarted,
  atA,
  later,
  monitor,
  name,
  nbdSocket,
  savedOnce,
  startBranch,
  VmWorld,
} from "../../test/support/vm-world.ts";
import { isKelpieError } from "../base/errors.ts";

describe("attach", () => {
  test("it finds the VM's disks and gives QEMU the memory VDI", async () => {
    const world = await VmWorld.attached();
    const [vm] = await world.control.call("vm.list", {});
    assert.deepEqual(vm?.disks, ["root", "data"]);
    assert.equal(vm?.state, "running");
    assert.equal(vm?.memory, "vm1.memory");
    assert.equal(world.qemu.nodes.get("kelpie-memory")?.driver, "qcow2");
    const list = await world.control.call("vdi.list", {});
    assert.deepEqual(
      list.map((entry) => entry.vm),
      [name, name, name],
    );
    // Again: nothing changes.
    await world.control.call("vm.attach", { name });
    await world.mustBeInOrder();
    await world.close();
  });

  test("a drive that is not Kelpie's is refused with its name, unless it is left out", async () => {
    const world = await VmWorld.open();
    world.qemu.nodes.set("scratch", { driver: "raw", file: "/tmp/x.raw", isDrive: true });
    await assert.rejects(world.control.call("vm.attach", { name, monitor }), (error) => {
      assert.ok(isKelpieError(error, "unsupported"));
      assert.match(error.message, /drive "scratch" of VM "vm1" is not a disk of this store/);
      assert.match(error.remedy ?? "", /--leave-out scratch/);
      return true;
    });
    assert.deepEqual(await world.control.call("vm.list", {}), []);
    const wrong = { name, monitor, leaveOut: ["scratch", "other"] };
    await assert.rejects(world.control.call("vm.attach", wrong), /no drive "other" to leave out/);
    const vm = await world.control.call("vm.attach", { name, monitor, leaveOut: ["scratch"] });
    assert.deepEqual([vm.disks, vm.leftOut], [["root", "data"], ["scratch"]]);
    await world.control.call("vm.savevm", { name, tag: "a" });
    await world.close();
  });

  test("read-only drives, foreign servers, formats with caches", async () => {
    const world = await VmWorld.open();
    const { nodes } = world.qemu;
    nodes.set("cd", { driver: "raw", file: "/x.iso", isDrive: true, readOnly: true });
    const vm = await world.control.call("vm.attach", { name, monitor });
    assert.deepEqual(vm.disks, ["root", "data"]);
    const foreign: [string, string, RegExp][] = [
      ["nbd", "nbd+unix:///root?socket=/other/nbd.sock", /not a disk of this store/],
      ["nbd", "nbd://10.0.0.1:10809/root", /not a disk of this store/],
      ["nbd", `nbd+unix:///nobody?socket=${nbdSocket.path}`, /not a disk of this store/],
      ["qcow2", `nbd+unix:///root?socket=${nbdSocket.path}`, /is a qcow2 image in the disk/],
    ];
    for (const [driver, file, message] of foreign) {
      nodes.set("more", { driver, file, isDrive: true });
      await assert.rejects(world.control.call("vm.attach", { name }), message);
      await assert.rejects(world.control.call("vm.savevm", { name }), message);
    }
    await world.close();
  });

  test("a second VM on a disk is refused, naming the first, unless it shares", async () => {
    const world = await VmWorld.attached();
    const other = { kind: "unix", path: "/run/vm2.qmp" } as const;
    const qemu = new FakeQemu();
    qemu.nodes.set("r", {
      driver: "nbd",
      file: `nbd+unix:///root?socket=${nbdSocket.path}`,
      isDrive: true,
    });
    await qemu.listen(world.net, other);
    const attach = { name: "vm2", monitor: other };
    await assert.rejects(world.control.call("vm.attach", attach), /"root" is one of VM "vm1"/);
    await world.control.call("vm.attach", { ...attach, share: true });
    await world.close();
  });

  test("nobody's monitor, and a QEMU that is too old", async () => {
    const world = await VmWorld.open();
    await assert.rejects(world.control.call("vm.attach", { name }), /there is no VM "vm1"/);
    world.vms.serve([]);
    await assert.rejects(world.control.call("vm.attach", { name, monitor }), /not served over NBD/);
    await world.close();
  });
});

describe("savevm and loadvm", () => {
  test("memory and disks come back of one moment, forwards too", async () => {
    const world = await savedOnce();
    await world.control.call("vm.savevm", { name, tag: "b" });
    await world.guest("last", 4);
    await world.control.call("vm.loadvm", { name, snapshot: "1" });
    assert.deepEqual(await world.moment(), atA);
    await world.control.call("vm.loadvm", { name, snapshot: "b" });
    assert.deepEqual(await world.moment(), later);
    assert.equal(world.qemu.isRunning, true);
    const all = await world.control.call("vm.snapshots", { name });
    assert.deepEqual(
      all.map(({ id, tag, parent, current }) => [id, tag, parent, current]),
      [
        [1, "a", null, false],
        [2, "b", 1, true],
      ],
    );
    assert.equal(all[0]?.clockNs, 1_500_000_000);
    assert.deepEqual(all[0]?.disks, [
      { name: "root", snapId: 1 },
      { name: "data", snapId: 1 },
    ]);
    await world.control.call("vm.savevm", { name });
    await world.mustBeInOrder();
    const first = (await world.control.call("vm.snapshots", { name })).at(-1)?.tag;
    const { snapshot } = await world.control.call("vm.savevm", { name });
    assert.equal(snapshot.tag, `${first}-2`, "two in one second");
    await world.control.call("vm.delvm", { name, snapshot: snapshot.tag });
    const made = (await world.control.call("vm.snapshots", { name })).at(-1);
    assert.match(made?.tag ?? "", /^vm-\d{14}$/);
    await world.close();
  });

  test("after savevm, savevm, loadvm 1 the working VDIs stand on the first snapshot", async () => {
    const world = await savedOnce();
    await world.control.call("vm.savevm", { name, tag: "b" });
    await world.control.call("vm.loadvm", { name, snapshot: "1" });
    for (const disk of ["root", "data"]) {
      const list = await world.control.call("vdi.list", { name: disk });
      assert.equal(list.length, 3, "no third snapshot");
      const [a, b, working] = list;
      assert.deepEqual([b?.parent, working?.parent], [a?.point, a?.point]);
    }
    await world.close();
  });

  test("a guest that was paused stays paused", async () => {
    const world = await savedOnce();
    world.qemu.isRunning = false;
    await world.control.call("vm.savevm", { name, tag: "b" });
    assert.equal(world.qemu.isRunning, false);
    await world.control.call("vm.loadvm", { name, snapshot: "a" });
    assert.equal(world.qemu.isRunning, false);
    await world.mustBeInOrder();
    await world.close();
  });

  test("a used tag is refused, or replaced in one step", async () => {
    const world = await savedOnce();
    await assert.rejects(world.control.call("vm.savevm", { name, tag: "a" }), (error) => {
      assert.ok(isKelpieError(error, "exists"));
      return true;
    });
    await world.vdis.snapshot(["root"], "mine");
    const mine = world.control.call("vm.savevm", { name, tag: "mine" });
    await assert.rejects(mine, /disk "root" has a snapshot "mine" of its own/);
    assert.deepEqual(
      world.qemu.log.filter((command) => command === "stop"),
      [],
    );
    await world.control.call("vm.savevm", { name, tag: "a", replace: true });
    await world.guest("last", 5);
    await world.control.call("vm.loadvm", { name, snapshot: "a" });
    assert.deepEqual(await world.moment(), later);
    const all = await world.control.call("vm.snapshots", { name });
    assert.deepEqual(
      all.map(({ id, parent, current }) => [id, parent, current]),
      [[2, null, true]],
    );
    await world.mustBeInOrder();
    await world.close();
  });

  test("what is wrong is said before the guest is stopped", async () => {
    const world = await savedOnce();
    const calls: [() => Promise<unknown>, RegExp][] = [
      [() => world.control.call("vm.loadvm", { name, snapshot: "x" }), /no snapshot "x"/],
      [() => world.control.call("vm.savevm", { name, tag: "17" }), /cannot be a tag/],
      [() => world.control.call("vm.savevm", { name: "vm9" }), /there is no VM "vm9"/],
    ];
    for (const [call, message] of calls) await assert.rejects(call(), message);
    world.qemu.nodes.delete("node-data");
    const gone = world.control.call("vm.savevm", { name });
    await assert.rejects(gone, /does not have its disk "data" any more/);
    assert.ok(!world.qemu.log.includes("stop"));
    await world.close();
  });

  test("progress is told", async () => {
    const world = await savedOnce();
    const seen: number[] = [];
    const progress = ({ totalBytes }: { totalBytes: number }) => seen.push(totalBytes);
    await world.control.call("vm.savevm", { name, tag: "b" }, { progress });
    assert.equal(seen[0], 256 * 2 ** 20);
    await world.close();
  });
});

describe("delvm", () => {
  test("disks' snapshots and the memory's state go together; what stood on it stands higher", async () => {
    const world = await savedOnce();
    await world.control.call("vm.savevm", { name, tag: "b" });
    await assert.rejects(
      world.control.call("vdi.delete", { name: "root", snapshot: "a" }),
      /part of VM/,
    );
    await world.control.call("vm.delvm", { name, snapshot: "a" });
    const all = await world.control.call("vm.snapshots", { name });
    assert.deepEqual(
      all.map(({ tag, parent }) => [tag, parent]),
      [["b", null]],
    );
    assert.equal(world.vdis.registry.snapshotsOf("root").length, 1);
    await world.mustBeInOrder();
    await world.close();
  });

  test("of a VM that is off, too: the state goes when it is attached again", async () => {
    const world = await savedOnce();
    const { formatted } = world.qemu;
    world.qemu.intercept = () => "vanish";
    await assert.rejects(world.control.call("vm.delvm", { name, snapshot: "a" }));
    assert.deepEqual(await world.control.call("vm.snapshots", { name }), []);
    assert.equal([...formatted.values()][0]?.length, 1);
    world.qemu.intercept = () => undefined;
    await world.control.call("vm.attach", { name });
    assert.deepEqual(world.qemu.imagesOf("kelpie-memory"), []);
    await world.close();
  });
});

describe("the rest", () => {
  test("a branch goes on from the snapshot on clones, and the first VM is as it was", async () => {
    const world = await savedOnce();
    const branch = { name, snapshot: "a", as: "vm2" };
    await assert.rejects(world.control.call("vm.branch", branch), /Kelpie did not start VM "vm1"/);
    await asIfStarted(world);
    const vm2 = await world.control.call("vm.branch", branch);
    assert.deepEqual(vm2.disks, ["vm2-root", "vm2-data"]);
    assert.equal(vm2.state, "off");
    await assert.rejects(world.control.call("vm.branch", branch), /there is a VM "vm2" already/);

    const qemu = await startBranch(world, vm2);
    await world.control.call("vm.attach", { name: "vm2", begin: true });
    assert.equal(qemu.memory, "at-a");
    assert.equal(qemu.isRunning, true);
    assert.deepEqual(qemu.imagesOf("kelpie-memory"), []);
    assert.deepEqual(await world.moment(), later);
    assert.equal((await world.control.call("vm.list", {})).length, 2);
    await world.close();
  });

  test("the monitor's four commands are Kelpie's, the others QEMU's", async () => {
    const world = await savedOnce();
    const say = async (line: string) =>
      (await world.control.call("vm.command", { name, line })).output;
    assert.match(await say("savevm b"), /^saved snapshot 2 "b", \d/);
    const table = await say("info snapshots");
    assert.match(table, /^ID {8}TAG .*VM SIZE .*DATE .*VM CLOCK\n1 +a .* 00:00:01\.500\n2 +b /);
    assert.match(await say(" loadvm  1 "), /^loaded snapshot 1 "a"/);
    assert.equal(await say("delvm b"), "");
    assert.equal(await say("info status"), "you said info status\n");
    await assert.rejects(say("loadvm"), /a tag or id is missing/);
    await assert.rejects(say("savevm a b"), /that is too much/);
    await world.mustBeInOrder();
    await world.close();
  });

  test("a VM is stopped, and deleted with its snapshots; its disks stay", async () => {
    const world = await savedOnce();
    await assert.rejects(world.control.call("vm.delete", { name }), /is not off/);
    world.qemu.onQuit = () => world.net.stopListening(monitor);
    const stopping = world.control.call("vm.stop", { name, force: true });
    assert.deepEqual(await stopping, { stopped: true });
    assert.deepEqual(await world.control.call("vm.stop", { name }), { stopped: false });
    assert.equal((await world.control.call("vm.list", {}))[0]?.state, "off");
    await world.control.call("vm.delete", { name });
    assert.deepEqual([...world.vdis.registry.working.keys()].sort(), ["data", "root"]);
    assert.deepEqual(world.vdis.registry.snapshotsOf("root"), []);
    await world.close();
  });

  test("a VM to be started gets a directory, and keeps its disks from others", async () => {
    const world = await VmWorld.open();
    const launch = { memory: "256M", arguments: [], directory: "/" };
    const vm = await world.control.call("vm.create", { name: "vm5", disks: ["root"], launch });
    assert.deepEqual(vm.monitor, { kind: "unix", path: "/store/vm/vm5/qmp.sock" });
    assert.equal(vm.state, "off");
    const other = { name: "vm6", disks: ["root"], launch };
    await assert.rejects(world.control.call("vm.create", other), /"root" is one of VM "vm5"/);
    for (const bad of ["a/b", "..", "", "x".repeat(64)]) {
      const call = world.control.call("vm.create", { name: bad, disks: [], launch });
      await assert.rejects(call, (error) => isKelpieError(error, "invalid"));
    }
    const long = { name: "x".repeat(63), disks: [], launch };
    await world.control.call("vm.create", long);
    await world.close();
  });

  test("a disk with the memory VDI's name and somebody's data is not taken", async () => {
    const world = await VmWorld.open();
    await world.vdis.create("vm5.memory", 2 ** 20);
    await world.vdis.volume("vm5.memory").write([new Uint8Array(4096).fill(7)], 0);
    const launch = { memory: "256M", arguments: [], directory: "/" };
    const made = world.control.call("vm.create", { name: "vm5", disks: ["root"], launch });
    await assert.rejects(made, (error) => {
      assert.ok(isKelpieError(error, "exists"));
      return /a disk "vm5\.memory", where VM "vm5" would keep its memory/.test(error.message);
    });
    assert.equal(world.vdis.registry.vms.get("vm5"), undefined);
    assert.equal(world.vdis.point("vm5.memory").mappedBlocks, 1);
    await world.close();
  });

  test("the memory VDI is changed by what is done with the VM only", async () => {
    const world = await savedOnce();
    const disk = "vm1.memory";
    const { control } = world;
    const changes = [
      () => control.call("vdi.snapshot", { names: ["root", disk], tag: "x" }),
      () => control.call("vdi.rollback", { names: [disk], snapshot: "#1", live: true }),
      () => control.call("vdi.clone", { source: disk, snapshot: "#1", name: "other" }),
      () => control.call("vdi.resize", { name: disk, sizeBytes: 2 ** 41, shrink: false }),
      () => control.call("vdi.undelete", { name: disk, live: false }),
    ];
    for (const change of changes) {
      await assert.rejects(change, /"vm1\.memory" is where VM "vm1" keeps its memory/);
    }
    await world.mustBeInOrder();
    await world.close();
  });
});
