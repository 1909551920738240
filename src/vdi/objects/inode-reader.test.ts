import assert from "node:assert/strict";
import { test } from "node:test";
import { inodeOf, openMemoryObjects } from "../../../test/support/memory-objects.ts";
import { filled } from "../../../test/support/memory-vdis.ts";

const mebibyte = 2 ** 20;
const objectBytes = 4 * mebibyte;

test("an inode's header says what the disk or snapshot is", async () => {
  const { vdis, vidOf, header, host } = await openMemoryObjects();
  const createdMs = host.clock.nowMs();
  await vdis.create("a", 10 * mebibyte);
  await host.time.advance(5000);
  await vdis.snapshot(["a"], "one");
  await vdis.resize("a", 12 * mebibyte, false);
  const [snapshot, tip] = [await vidOf("a", "one"), await vidOf("a")];
  const common = { name: "a", copies: 1, copyPolicy: 0, storePolicy: 0, blockSizeShift: 22 };
  const none = { vmClockNs: 0, vmStateBytes: 0, btreeNodes: 0 };
  const frozen = await header(snapshot);
  assert.ok(Math.abs(frozen.createdMs - createdMs) < 1000);
  assert.ok(frozen.snapshotMs - createdMs >= 5000);
  assert.deepEqual(frozen, {
    ...common,
    ...none,
    tag: "one",
    createdMs: frozen.createdMs,
    snapshotMs: frozen.snapshotMs,
    sizeBytes: 10 * mebibyte,
    snapId: 1,
    vid: snapshot,
    parentVid: 0,
  });
  assert.deepEqual(await header(tip), {
    ...common,
    ...none,
    tag: "",
    createdMs: frozen.snapshotMs,
    snapshotMs: 0,
    sizeBytes: 12 * mebibyte,
    snapId: 2,
    vid: tip,
    parentVid: snapshot,
  });
  await vdis.close();
});

test("what was deleted has an inode without a name", async () => {
  const { vdis, vidOf, header, objects, owners } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  await vdis.volume("a").write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  const [snapshot, tip] = [await vidOf("a", "one"), await vidOf("a")];
  await vdis.delete("a");
  await vdis.deleteSnapshot("a", "one");
  for (const vid of [snapshot, tip]) {
    const { name, sizeBytes, vid: own } = await header(vid);
    assert.deepEqual({ name, sizeBytes, own }, { name: "", sizeBytes: 0, own: vid });
    assert.deepEqual(await owners(vid, 1), [0]);
  }
  assert.throws(() => void objects.read(inodeOf(123), 0, Buffer.alloc(1)), {
    refusal: "no-object",
  });
  await vdis.close();
});

test("any range of an inode is the same bytes as all of it, zeros behind the end", async () => {
  const { vdis, vidOf, objects } = await openMemoryObjects();
  await vdis.create("a", 100 * objectBytes);
  for (const at of [0, 1, 7, 99]) await vdis.volume("a").write(filled(1), at * objectBytes);
  const vid = await vidOf("a");
  const all = Buffer.alloc(12_587_576, 0xee);
  await objects.read(inodeOf(vid), 0, all);
  assert.equal(all.readUInt32LE(4664 + 4 * 99), vid);
  assert.ok(all.subarray(4664 + 400).every((byte) => byte === 0));
  const ranges = [
    [0, 4664],
    [0, 4672],
    [250, 20],
    [4660, 9],
    [4665, 2],
    [4664 + 27, 6],
    [4664 + 390, 100],
    [4_198_960, 100],
    [12_587_570, 6],
  ] as const;
  for (const [offset, length] of ranges) {
    const part = Buffer.alloc(length, 0xee);
    await objects.read(inodeOf(vid), offset, part);
    assert.deepEqual(part, all.subarray(offset, offset + length), `${length} at ${offset}`);
  }
  await vdis.close();
});
