import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";
import { isKelpieError } from "../base/errors.ts";
import { checkStore } from "../store/check.ts";
import type { Vdis } from "./vdis.ts";
import type { VmRecord } from "./vm-record.ts";

const record: VmRecord = {
  name: "vm1",
  monitor: { kind: "unix", path: "/vm1/qmp.sock" },
  disks: ["root", "data"],
  leftOut: [],
  memory: "vm1.memory",
  snapshots: [],
  nextId: 1,
  current: null,
  launch: null,
  pending: null,
};

function saved(points: readonly number[], id: number, tag: string): VmRecord["snapshots"][number] {
  const disks = points.map((point, at) => ({ name: record.disks[at] ?? "", point }));
  const times = { takenMs: 1, clockNs: 2, memoryBytes: 3 };
  return { id, tag, image: `image-${id}`, parent: null, disks, ...times };
}

async function opened() {
  const { vdis, files } = await openMemoryVdis();
  for (const name of ["root", "data", "vm1.memory"]) await vdis.create(name, 2 ** 20);
  await vdis.note([{ type: "vm", record }]);
  const save = (tag: string, id: number, replacing: readonly number[] = []) =>
    vdis.snapshot(["root", "data"], tag, {
      replacing,
      notes: (points) => [
        { type: "vm", record: { ...record, snapshots: [saved(points, id, tag)] } },
      ],
    });
  return { vdis, files, save };
}

async function write(vdis: Vdis, name: string, byte: number): Promise<void> {
  await vdis.volume(name).write(filled(byte), 0);
}

async function mustBeClean(vdis: Vdis): Promise<void> {
  const { findings } = await checkStore(vdis.store, { repair: false, describe: () => "" });
  assert.deepEqual(findings, []);
}

test("a VM's record and its disks' snapshots come in one record, and survive", async () => {
  const { vdis, files, save } = await opened();
  const before = vdis.store.catalog.last;
  await save("a", 1);
  assert.equal(vdis.store.catalog.last, before + 1);
  const points = vdis.registry.vms.find("vm1").snapshots[0]?.disks;
  assert.equal(points?.length, 2);
  const point = vdis.registry.findSnapshot("data", "a").point;
  assert.equal(vdis.registry.vms.ofPoint(point)?.snapshot.id, 1);
  await vdis.close();
  const again = await openMemoryVdis({}, files);
  assert.deepEqual(again.vdis.registry.vms.find("vm1").snapshots[0]?.disks, points);
  assert.equal(again.vdis.registry.vms.ofDisk("vm1.memory")?.name, "vm1");
  await again.vdis.note([{ type: "forgetVm", name: "vm1" }]);
  assert.throws(() => again.vdis.registry.vms.find("vm1"), /there is no VM "vm1"/);
  assert.equal(again.vdis.registry.vms.ofPoint(point), undefined);
  await again.vdis.close();
});

test("a snapshot may replace others of the same tag, in the same record", async () => {
  const { vdis, save } = await opened();
  await write(vdis, "root", 1);
  await save("a", 1);
  const old = vdis.registry.vms.find("vm1").snapshots[0]?.disks.map(({ point }) => point) ?? [];
  await write(vdis, "root", 2);
  await assert.rejects(save("a", 2), (error) => isKelpieError(error, "exists"));
  const before = vdis.store.catalog.last;
  await save("a", 2, old);
  assert.equal(vdis.store.catalog.last, before + 1);
  assert.equal(vdis.registry.snapshotsOf("root").length, 1);
  await write(vdis, "root", 3);
  await vdis.rollback(["root", "data"], "a", false);
  assert.equal(await byteAt(vdis.volume("root"), 0), 2);
  await vdis.purge();
  await mustBeClean(vdis);
  await vdis.close();
});

test("what belongs to a VM is not deleted piece by piece", async () => {
  const { vdis, save } = await opened();
  await save("a", 1);
  await assert.rejects(vdis.deleteSnapshot("root", "a"), /part of VM "vm1"'s snapshot "a"/);
  await assert.rejects(vdis.delete("data"), /disk "data" is one of VM "vm1"/);
  await assert.rejects(vdis.delete("vm1.memory"), /is one of VM "vm1"/);
  const points = vdis.registry.vms.find("vm1").snapshots[0]?.disks.map(({ point }) => point) ?? [];
  await vdis.deleteSnapshots(points, [{ type: "vm", record }]);
  assert.deepEqual(vdis.registry.snapshotsOf("root"), []);
  await assert.rejects(vdis.deleteSnapshots(points, []), /is gone/);
  await vdis.close();
});

test("disks are cloned with one as it is now, which gets no snapshot of it", async () => {
  const { vdis, files, save } = await opened();
  await write(vdis, "root", 1);
  await write(vdis, "vm1.memory", 7);
  await save("a", 1);
  await write(vdis, "root", 2);
  const points = vdis.registry.vms.find("vm1").snapshots[0]?.disks ?? [];
  const clones = points.map(({ point, name }) => ({ point, name: `vm2-${name}` }));
  const before = vdis.store.catalog.last;
  const vm2 = { ...record, name: "vm2", disks: [], memory: "vm2.memory" };
  const now = { source: "vm1.memory", name: "vm2.memory" };
  await assert.rejects(vdis.cloneEach(clones, { ...now, name: "root" }, []), /there is a disk/);
  await vdis.cloneEach(clones, now, [{ type: "vm", record: vm2 }]);
  assert.equal(vdis.store.catalog.last, before + 1);
  await write(vdis, "vm1.memory", 8);
  assert.equal(await byteAt(vdis.volume("vm2-root"), 0), 1);
  assert.equal(await byteAt(vdis.volume("vm2.memory"), 0), 7);
  await write(vdis, "vm2.memory", 9);
  assert.equal(await byteAt(vdis.volume("vm1.memory"), 0), 8);
  assert.deepEqual(vdis.registry.snapshotsOf("vm1.memory"), []);
  await mustBeClean(vdis);
  await vdis.close();
  const again = await openMemoryVdis({}, files);
  assert.equal(await byteAt(again.vdis.volume("vm1.memory"), 0), 8);
  assert.equal(await byteAt(again.vdis.volume("vm2.memory"), 0), 9);
  await mustBeClean(again.vdis);
  await again.vdis.close();
});

test("each disk goes back to a snapshot of its own", async () => {
  const { vdis } = await opened();
  await write(vdis, "root", 1);
  await vdis.snapshot(["root"], "x");
  await write(vdis, "data", 2);
  await vdis.snapshot(["data"], "y");
  await write(vdis, "root", 3);
  await write(vdis, "data", 3);
  const targets = [
    { name: "root", snapshot: "x" },
    { name: "data", snapshot: "#1" },
  ];
  const notes = [{ type: "vm" as const, record: { ...record, nextId: 5 } }];
  await vdis.rollbackEach(targets, { live: true, notes });
  assert.equal(await byteAt(vdis.volume("root"), 0), 1);
  assert.equal(await byteAt(vdis.volume("data"), 0), 2);
  assert.equal(vdis.registry.vms.find("vm1").nextId, 5);
  await vdis.close();
});
