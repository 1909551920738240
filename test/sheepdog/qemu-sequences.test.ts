import assert from "node:assert/strict";
import { test } from "node:test";
import { result } from "../../src/sheepdog/results.ts";
import type { Oid } from "../../src/sheepdog/wire-oid.ts";
import { opcode } from "../../src/sheepdog/wire-opcodes.ts";
import { sameBytes } from "./same-bytes.ts";
import { serveStore } from "./served-store.ts";

/*
 * What QEMU's driver does, played as the facts page tells it (sections 10 and 12), against a store.
 */

const mib = 2 ** 20;
const object = 4 * mib;
const filled = (length: number, value: number) => Buffer.alloc(length, value);

test("a disk is created, opened, written over several objects, read and closed", async () => {
  await using store = await serveStore();
  const vid = await store.createDisk("test", 16 * mib);
  assert.equal(vid, 0x7c2b25);
  const disk = await store.openDisk("test");
  const { header } = disk;
  assert.deepEqual([header.name, header.sizeBytes, header.snapshotMs], ["test", 16 * mib, 0]);
  assert.deepEqual([header.copies, header.snapId, header.parentVid], [1, 1, 0]);
  await disk.write(object - 1000, filled(object + 5000, 7));
  assert.deepEqual(
    [0, 1, 2, 3].map((index) => disk.entry(index)),
    [vid, vid, vid, 0],
  );
  sameBytes(await disk.read(object - 1001, 2), Buffer.from([0, 7]));
  await disk.write(100, filled(50, 9));
  await disk.flush();
  await disk.close();
  const again = await store.openDisk("test");
  assert.deepEqual(
    [0, 1, 2, 3].map((index) => again.entry(index)),
    [vid, vid, vid, 0],
  );
  sameBytes(await again.read(99, 52), Buffer.concat([filled(1, 0), filled(50, 9), filled(1, 0)]));
  sameBytes(await again.read(2 * object, 4001), Buffer.concat([filled(4000, 7), filled(1, 0)]));
  sameBytes(await again.read(3 * object, 512), filled(512, 0));
});

test("a name that is taken, and one that is not there", async () => {
  await using store = await serveStore();
  await store.createDisk("test", mib);
  await assert.rejects(store.createDisk("test", mib), /the VDI exists already/);
  await assert.rejects(store.openDisk("other"), /no such VDI/);
  await assert.rejects(store.openDisk("test", "tag"), /no snapshot with that tag or id/);
});

test("a snapshot keeps what was written before it, and copies objects when they are written", async () => {
  await using store = await serveStore();
  const first = await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(8192, 1));
  await disk.snapshotCreate("s1");
  assert.notEqual(disk.vid, first);
  assert.deepEqual([disk.entry(0), disk.header.parentVid, disk.header.snapId], [first, first, 2]);
  await disk.write(4096, filled(4096, 2));
  assert.equal(disk.entry(0), disk.vid);
  sameBytes(await disk.read(0, 8192), Buffer.concat([filled(4096, 1), filled(4096, 2)]));
  const [listed, ...others] = await disk.snapshotList();
  assert.deepEqual([listed?.id, listed?.tag, others], ["1", "s1", []]);
  assert.ok((listed?.snapshotMs ?? 0) > 0);
  for (const name of ["s1", "1"]) {
    const snapshot = await store.openDisk("test", name);
    assert.deepEqual([snapshot.vid, snapshot.header.tag], [first, "s1"]);
    sameBytes(await snapshot.read(0, 8192), filled(8192, 1));
  }
});

test("going back to a snapshot leaves the others alone and makes none", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  for (const [index, tag] of ["s1", "s2"].entries()) {
    await disk.write(0, filled(4096, index + 1));
    await disk.snapshotCreate(tag);
  }
  await disk.write(0, filled(4096, 3));
  await disk.snapshotGoto("s1");
  sameBytes(await disk.read(0, 4096), filled(4096, 1));
  assert.deepEqual(
    (await disk.snapshotList()).map(({ tag }) => tag),
    ["s1", "s2"],
  );
  const dog = await store.dog();
  assert.equal(await dog.tree("test"), "test(s1(s2 you are here))");
  await disk.write(4096, filled(4096, 4));
  await disk.snapshotGoto("2");
  sameBytes(await disk.read(0, 8192), Buffer.concat([filled(4096, 2), filled(4096, 0)]));
  assert.equal(await dog.tree("test"), "test(s1(s2(you are here)))");
  assert.equal((await dog.list()).length, 3);
});

test("the machine's state is read back after going to the snapshot it was saved with", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(512, 1));
  const states = [filled(5 * mib, 0xa1), filled(3 * mib, 0xa2)] as const;
  for (const [index, state] of states.entries()) {
    for (let at = 0; at < state.length; at += 32_768) {
      await disk.saveVmState(state.subarray(at, at + 32_768), at);
    }
    await disk.snapshotCreate(`s${index + 1}`, { stateBytes: state.length, clockNs: 77 });
    await disk.write(0, filled(512, index + 2));
  }
  await disk.snapshotGoto("s1");
  sameBytes(await disk.read(0, 512), filled(512, 1));
  sameBytes(await disk.loadVmState(0, 5 * mib), states[0]);
  // It reads ahead, past the end.
  sameBytes(await disk.loadVmState(5 * mib, 32_768), filled(32_768, 0));
  await disk.snapshotGoto("s2");
  sameBytes(await disk.loadVmState(0, 3 * mib), states[1]);
  const snapshot = await store.openDisk("test", "s2");
  assert.deepEqual([snapshot.header.vmStateBytes, snapshot.header.vmClockNs], [3 * mib, 77]);
});

test("deleting a snapshot as QEMU does it spares the disk that it wipes", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(object + 4096, 1));
  await disk.snapshotCreate("s1");
  await disk.write(0, filled(4096, 2));
  assert.equal(await disk.snapshotDelete("1"), result.success);
  await disk.close();
  const again = await store.openDisk("test");
  sameBytes(await again.read(0, 8192), Buffer.concat([filled(4096, 2), filled(4096, 1)]));
  sameBytes(await again.read(object, 4096), filled(4096, 1));
  assert.deepEqual(await again.snapshotList(), []);
});

test("a machine that runs beside qemu-img snapshot -d loses nothing and reads no zeros", async () => {
  const count = 130; // wiped by two requests
  await using store = await serveStore();
  await store.createDisk("test", count * object);
  const machine = await store.openDisk("test");
  for (let at = 0; at < count; at++) await machine.write(at * object, filled(512, 1));
  await machine.snapshotCreate("s1");
  for (let at = 0; at < count; at += 2) await machine.write(at * object, filled(512, 2));
  const image = await store.openDisk("test");
  let isOver = false;
  let rounds = 0;
  const running = (async () => {
    for (; !isOver || rounds < 40; rounds++) {
      const at = (rounds * 7) % count;
      sameBytes(await machine.read(at * object, 512), filled(512, at % 2 === 0 ? 2 : 1));
      await machine.write(at * object + 512, filled(512, 3));
    }
  })();
  const deleted = await image.snapshotDelete("1").finally(() => {
    isOver = true;
  });
  await running;
  assert.equal(deleted, result.success);
  const again = await store.openDisk("test");
  const written = new Set(Array.from({ length: rounds }, (_, round) => (round * 7) % count));
  for (let at = 0; at < count; at++) {
    const content = [filled(512, at % 2 === 0 ? 2 : 1), filled(512, written.has(at) ? 3 : 0)];
    sameBytes(await again.read(at * object, 1024), Buffer.concat(content));
  }
  assert.deepEqual(await again.snapshotList(), []);
});

test("qemu-img snapshot -c after a snapshot by others does not set the disk back", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const machine = await store.openDisk("test");
  await machine.write(0, filled(4096, 1));
  const image = await store.openDisk("test");
  await store.vdis.snapshot(["test"], "other");
  await machine.write(0, filled(4096, 2));
  await image.snapshotCreate("mine");
  await machine.write(4096, filled(4096, 3));
  const again = await store.openDisk("test");
  sameBytes(await again.read(0, 8192), Buffer.concat([filled(4096, 2), filled(4096, 3)]));
  for (const [tag, value] of [
    ["other", 1],
    ["mine", 2],
  ] as const) {
    sameBytes(await (await store.openDisk("test", tag)).read(0, 4096), filled(4096, value));
  }
});

test("before 1.5 the first write after loadvm keeps what was there as one more snapshot", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(512, 1));
  await disk.saveVmState(filled(4096, 0xa1), 0);
  await disk.snapshotCreate("s1", { stateBytes: 4096, clockNs: 77 });
  await disk.write(0, filled(512, 2));
  await disk.close();
  // What it reads then are the snapshot's own objects, and it changes nothing yet.
  const back = await store.openDisk("test", "1");
  sameBytes(await back.read(0, 512), filled(512, 1));
  const dog = await store.dog();
  assert.equal(await dog.tree("test"), "test(s1(you are here))");
  await back.branch({ deletes: false });
  await back.write(512, filled(512, 3));
  sameBytes(await back.read(0, 1024), Buffer.concat([filled(512, 1), filled(512, 3)]));
  sameBytes(await back.loadVmState(0, 4096), filled(4096, 0xa1));
  const listed = await back.snapshotList();
  assert.deepEqual(
    listed.map(({ id, tag }) => [id, tag]),
    [
      ["1", "s1"],
      ["2", ""],
    ],
  );
  sameBytes(await (await store.openDisk("test", "2")).read(0, 512), filled(512, 2));
  sameBytes(await (await store.openDisk("test")).read(512, 512), filled(512, 3));
});

test("since 1.5 a write to an opened snapshot takes the disk's place; undelete mends it", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(512, 1));
  await disk.snapshotCreate("s1");
  await disk.write(0, filled(512, 2));
  await disk.close();
  const opened = await store.openDisk("test", "s1");
  await opened.branch({ deletes: true });
  await opened.write(512, filled(512, 3));
  const again = await store.openDisk("test");
  sameBytes(await again.read(0, 1024), Buffer.concat([filled(512, 1), filled(512, 3)]));
  assert.deepEqual(
    (await again.snapshotList()).map(({ tag }) => tag),
    ["s1"],
  );
  await opened.close();
  await again.close();
  await store.vdis.undelete("test", { as: "before" });
  sameBytes(await (await store.openDisk("before")).read(0, 512), filled(512, 2));
});

test("an object that is discarded by a request of its own is a hole too", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(2 * object, 1));
  await disk.snapshotCreate("s1");
  await disk.write(0, filled(512, 2));
  for (const index of [0, 1]) await disk.discardObject(index);
  await disk.write(512, filled(512, 3));
  sameBytes(await disk.read(0, 1024), Buffer.concat([filled(512, 0), filled(512, 3)]));
  const again = await store.openDisk("test");
  sameBytes(await again.read(object, 512), filled(512, 1));
  sameBytes(await (await store.openDisk("test", "s1")).read(0, 512), filled(512, 1));
});

test("a discarded object reads as zeros and is a hole", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(2 * object, 1));
  await disk.discard(1);
  const again = await store.openDisk("test");
  assert.deepEqual([again.entry(0) !== 0, again.entry(1)], [true, 0]);
  sameBytes(await again.read(2 * object - 512, 512), filled(512, 0));
  await disk.write(object, filled(512, 5));
  sameBytes(await disk.read(object, 1024), Buffer.concat([filled(512, 5), filled(512, 0)]));
});

test("a disk grows when it is told to, and when it is written behind its end", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 4 * mib);
  const disk = await store.openDisk("test");
  await disk.truncate(8 * mib);
  assert.equal((await store.openDisk("test")).header.sizeBytes, 8 * mib);
  await disk.write(9 * mib, filled(mib, 3));
  const again = await store.openDisk("test");
  assert.equal(again.header.sizeBytes, 10 * mib);
  sameBytes(await again.read(9 * mib, mib), filled(mib, 3));
});

test("a snapshot by somebody else leads the writer to the new disk", async () => {
  await using store = await serveStore();
  const first = await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(4096, 1));
  const dog = await store.dog();
  const { workingVid, snapshotVid } = await dog.snapshot("test", "s1");
  assert.equal(snapshotVid, first);
  await disk.write(0, filled(2 * object, 2));
  assert.equal(disk.vid, workingVid);
  sameBytes(await disk.read(0, 8192), filled(8192, 2));
  sameBytes(await dog.read("test", 0, 8192), filled(8192, 2));
  const before = await dog.read("test", 0, 8192, { tag: "s1" });
  sameBytes(before, Buffer.concat([filled(4096, 1), filled(4096, 0)]));
});

test("a request that is sent again changes nothing", async () => {
  await using store = await serveStore();
  const vid = await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(4096, 1));
  await disk.snapshotCreate("s1");
  const client = await store.connect();
  const oid: Oid = { kind: "data", vid: disk.vid, index: 0 };
  const source: Oid = { kind: "data", vid, index: 0 };
  for (let times = 0; times < 2; times++) {
    assert.equal(await client.create(oid, 512, filled(512, 2), source), result.success);
  }
  const content = [filled(512, 1), filled(512, 2), filled(3072, 1), filled(4096, 0)];
  const { payload } = await client.read(oid, 0, 8192);
  sameBytes(Buffer.from(payload), Buffer.concat(content));
  // A flush that is sent again as a write of nothing into the inode.
  const empty = await client.write({ kind: "inode", vid: disk.vid, index: 0 }, 0, filled(0, 0));
  assert.equal(empty, result.success);
});

test("a disk that went away under a writer is an error, not a way to another disk", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(4096, 1));
  await disk.snapshotCreate("s1");
  await disk.write(0, filled(4096, 2));
  const other = await store.openDisk("test");
  await other.snapshotGoto("s1");
  await assert.rejects(disk.write(0, filled(4096, 3)), /input or output failed/);
  sameBytes(await other.read(0, 4096), filled(4096, 1));
});

test("a rollback whose second half never comes is undone by undelete", async () => {
  await using store = await serveStore();
  await store.createDisk("test", 16 * mib);
  const disk = await store.openDisk("test");
  await disk.write(0, filled(4096, 1));
  await disk.snapshotCreate("s1");
  await disk.write(0, filled(4096, 2));
  const client = await store.connect();
  await client.vidOf(opcode.deleteVdi, "test");
  assert.equal((await client.vdi(opcode.getVdiInfo, "test")).result, result.noVdi);
  await store.vdis.undelete("test", {});
  const again = await store.openDisk("test");
  sameBytes(await again.read(0, 4096), filled(4096, 2));
  assert.deepEqual(
    (await again.snapshotList()).map(({ tag }) => tag),
    ["s1"],
  );
});
