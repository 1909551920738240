import assert from "node:assert/strict";
import { test } from "node:test";
import {
  inodeOf,
  newVdi,
  openMemoryObjects,
  select,
} from "../../../test/support/memory-objects.ts";
import { byteAt, filled } from "../../../test/support/memory-vdis.ts";
import { checkStore } from "../../store/check.ts";
import type { ObjectId } from "./objects.ts";

const objectBytes = 4 * 2 ** 20;

function vmstateOf(vid: number, index: number): ObjectId {
  return { kind: "vmstate", vid, index };
}

type Opened = Awaited<ReturnType<typeof openMemoryObjects>>;

function stateAt({ objects }: Opened, vid: number, index: number, offset = 0): Promise<number> {
  const read = (target: Uint8Array, at: number) => objects.read(vmstateOf(vid, index), at, target);
  return byteAt({ read }, offset);
}

test("a machine's state stays with its snapshot and is read back after the rollback", async () => {
  const opened = await openMemoryObjects();
  const { vdis, objects, writeHeader, header, files } = opened;
  const { vid: one } = await objects.newVdi(newVdi("a"));
  const missing = { refusal: "no-object" };
  await assert.rejects(stateAt(opened, one, 0), missing);
  assert.equal(await objects.exists(vmstateOf(one, 0)), false);
  await assert.rejects(async () => objects.write(vmstateOf(one, 0), 512, filled(1)), missing);
  const points = vdis.store.state.points.size;
  await objects.create(vmstateOf(one, 0), { offset: 0, chunks: filled(1, 32768) });
  await objects.write(vmstateOf(one, 0), 32768, filled(2, 32768));
  await objects.create(vmstateOf(one, 1), { offset: 0, chunks: filled(3, 1000) });
  assert.equal(vdis.store.state.points.size, points + 1, "one hidden point for all of it");
  await writeHeader(one, { tag: "vm", vmStateBytes: objectBytes + 1000 });
  const { vid: two } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
  const check = async (at: Opened) => {
    assert.equal(await stateAt(at, one, 0), 1);
    assert.equal(await stateAt(at, one, 0, 32768), 2);
    assert.equal(await stateAt(at, one, 0, 65536), 0, "zeros where QEMU reads ahead");
    assert.equal(await stateAt(at, one, 1, 0), 3);
    assert.equal(await stateAt(at, one, 7, 0), 0);
    assert.equal(await at.objects.exists(vmstateOf(one, 1)), true);
    assert.equal(await at.objects.exists(vmstateOf(one, 7)), false);
  };
  await check(opened);
  await assert.rejects(stateAt(opened, two, 0), missing, "the disk that goes on has none");
  await objects.deleteVdi(select("a"));
  const { vid: rolled } = await objects.newVdi(newVdi("a", { baseVid: one }));
  assert.equal((await header(rolled)).parentVid, one, "where QEMU looks for it");
  await check(opened);
  // It was made safe with the snapshot.
  const again = await openMemoryObjects(files.crashKeepingNothing());
  await check(again);
  await again.vdis.store.checkpoint();
  await again.vdis.close();
  const last = await openMemoryObjects(again.files);
  await check(last);
  const { findings } = await checkStore(last.vdis.store, { repair: false });
  assert.deepEqual(findings, []);
  await last.vdis.close();
});

test("a machine's state goes with its snapshot, and its space with it", async () => {
  const opened = await openMemoryObjects();
  const { vdis, objects } = opened;
  const { vid: one } = await objects.newVdi(newVdi("a"));
  await objects.create(vmstateOf(one, 0), { offset: 0, chunks: filled(1, 2 ** 20) });
  await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
  assert.equal(vdis.store.state.points.size, 3);
  await objects.deleteVdi(select("a", 1));
  await vdis.store.clean();
  assert.equal(vdis.store.state.points.size, 1);
  assert.equal(vdis.store.cleaner.totals().liveBytes, 0);
  await assert.rejects(stateAt(opened, one, 0), { refusal: "no-object" });
  await vdis.close();
});

test("a state that was written to a disk which is deleted comes back with it, or is purged", async () => {
  const opened = await openMemoryObjects();
  const { vdis, objects } = opened;
  const { vid } = await objects.newVdi(newVdi("a"));
  await objects.create(vmstateOf(vid, 0), { offset: 0, chunks: filled(1) });
  await objects.deleteVdi(select("a"));
  await assert.rejects(stateAt(opened, vid, 0), { refusal: "stale" });
  await vdis.undelete("a", {});
  assert.equal(await stateAt(opened, vid, 0), 1);
  await objects.deleteVdi(select("a"));
  await vdis.purge();
  await vdis.store.clean();
  assert.equal(vdis.store.state.points.size, 0);
  await vdis.close();
});

test("states of many snapshots, written in turn, are kept apart", async () => {
  const opened = await openMemoryObjects();
  const { objects } = opened;
  const vids: number[] = [];
  for (let at = 1; at <= 8; at++) {
    const { vid } = await objects.newVdi(newVdi(`disk${at}`));
    vids.push(vid);
  }
  for (const round of [0, 1]) {
    const writes = vids.map((vid, at) =>
      objects.create(vmstateOf(vid, round), { offset: 0, chunks: filled(10 * round + at + 1) }),
    );
    await Promise.all(writes);
  }
  for (const [at, vid] of vids.entries()) {
    assert.equal(await stateAt(opened, vid, 0), at + 1);
    assert.equal(await stateAt(opened, vid, 1), at + 11);
  }
  const again = await openMemoryObjects(opened.files.crashKeepingEverything());
  for (const [at, vid] of vids.entries()) assert.equal(await stateAt(again, vid, 1), at + 11);
  await again.vdis.close();
});

test("a crash after any step of saving a machine leaves no point behind that nobody knows", async () => {
  for (let stopAt = 1, done = false; !done; stopAt += 2) {
    const { objects, files, writeHeader } = await openMemoryObjects();
    const { vid } = await objects.newVdi(newVdi("a"));
    let operations = 0;
    let left: typeof files | undefined;
    const crashed = new Promise<void>((resolve) => {
      files.before = () => {
        if (++operations !== stopAt) return;
        left = files.crashKeepingNothing();
        resolve();
      };
    });
    const work = async () => {
      await objects.create(vmstateOf(vid, 0), { offset: 0, chunks: filled(1) });
      await writeHeader(vid, { tag: "vm", vmStateBytes: 4096 });
      await objects.newVdi(newVdi("a", { snapshot: true, baseVid: vid }));
      await objects.deleteVdi(select("a", "vm"));
    };
    await Promise.race([crashed, work()]);
    files.before = undefined;
    done = left === undefined;
    const again = await openMemoryObjects(left ?? files.crashKeepingNothing());
    if (again.vdis.registry.hasTag("a", "vm")) assert.equal(await stateAt(again, vid, 0), 1);
    const { extras } = again.vdis.registry.objects;
    for (const point of again.vdis.store.state.points.values()) {
      if (point.deleted) continue;
      const isNamed = again.vdis.registry.nameOf(point.id) !== undefined;
      assert.ok(isNamed || [...extras.values()].includes(point.id));
    }
    await again.vdis.close();
  }
});

test("a hyper volume's tree and ledgers are bytes that its clients keep", async () => {
  const { objects, writeHeader, header, files } = await openMemoryObjects();
  const request = newVdi("a", { storePolicy: 1, sizeBytes: 8 * 2 ** 40 });
  const { vid } = await objects.newVdi(request);
  const root = Buffer.alloc(4096, 7);
  await objects.write(inodeOf(vid), 4664 + 8, [root]);
  await writeHeader(vid, { btreeNodes: 5 });
  const node: ObjectId = { kind: "btree", vid, index: 3 };
  const ledger: ObjectId = { kind: "ledger", vid, index: 12 };
  await objects.create(node, { offset: 0, chunks: filled(8) });
  await objects.create(ledger, { offset: 4096, chunks: filled(9) });
  await objects.create({ kind: "data", vid, index: 2 ** 20 + 5 }, { offset: 0, chunks: filled(6) });
  await objects.remove(ledger);
  await objects.flush(vid);
  const again = await openMemoryObjects(files.crashKeepingNothing());
  const bytes = Buffer.alloc(4112);
  await again.objects.read(inodeOf(vid), 4664, bytes);
  assert.deepEqual(bytes, Buffer.concat([Buffer.alloc(8), root, Buffer.alloc(8)]));
  assert.equal((await again.header(vid)).btreeNodes, 5);
  const read = (target: Uint8Array, at: number) => again.objects.read(node, at, target);
  assert.equal(await byteAt({ read }, 0, 4096), 8);
  assert.equal(await again.objects.exists(ledger), false);
  assert.equal(await again.dataAt(vid, 2 ** 20 + 5), 6);
  await assert.rejects(again.objects.newVdi(newVdi("a", { snapshot: true, baseVid: vid })), {
    refusal: "unsupported",
  });
  // A snapshot over another protocol: the tree goes on.
  await again.vdis.snapshot(["a"], "s");
  const next = await again.vidOf("a");
  await again.objects.write(inodeOf(next), 4664, [Buffer.alloc(4, 1)]);
  await again.objects.read(inodeOf(next), 4664, bytes);
  assert.equal(bytes[0], 1);
  assert.equal(bytes[100], 7);
  await again.objects.read(inodeOf(vid), 4664, bytes);
  assert.equal(bytes[0], 0, "the snapshot's own is as it was");
  assert.equal((await header(vid)).storePolicy, 1);
  await again.vdis.close();
});
