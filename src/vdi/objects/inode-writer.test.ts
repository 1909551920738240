import assert from "node:assert/strict";
import { test } from "node:test";
import {
  dataOf,
  inodeOf,
  newVdi,
  openMemoryObjects,
} from "../../../test/support/memory-objects.ts";
import { filled } from "../../../test/support/memory-vdis.ts";

const objectBytes = 4 * 2 ** 20;

test("the tag and the machine's state that a client writes are those of the next snapshot", async () => {
  const { vdis, objects, header, writeHeader, files } = await openMemoryObjects();
  const { vid: one } = await objects.newVdi(newVdi("a"));
  const records = vdis.store.catalog.last;
  await writeHeader(one, { tag: "vm-1", vmStateBytes: 123456, vmClockNs: 987654321 });
  assert.equal(vdis.store.catalog.last, records + 1);
  await writeHeader(one, {});
  assert.equal(vdis.store.catalog.last, records + 1, "what is there already costs nothing");
  assert.equal((await header(one)).tag, "vm-1");
  // It is remembered over a crash, as an inode would be.
  const again = await openMemoryObjects(files.crashKeepingNothing());
  const { vid: two } = await again.objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
  assert.equal(await again.vidOf("a", "vm-1"), one);
  const { tag, vmStateBytes, vmClockNs } = await again.header(one);
  assert.deepEqual([tag, vmStateBytes, vmClockNs], ["vm-1", 123456, 987654321]);
  const fresh = await again.header(two);
  assert.deepEqual([fresh.tag, fresh.vmStateBytes, fresh.vmClockNs], ["", 0, 0]);
  // Also by itself, as dog writes it; a number is a tag here.
  const tagBytes = Buffer.alloc(256);
  tagBytes.write("17");
  await again.objects.write(inodeOf(two), 256, [tagBytes]);
  await again.vdis.store.checkpoint();
  await again.objects.newVdi(newVdi("a", { snapshot: true, baseVid: two }));
  assert.equal(await again.vidOf("a", "17"), two);
  await again.vdis.close();
  const last = await openMemoryObjects(again.files);
  assert.equal((await last.header(one)).vmStateBytes, 123456);
  assert.equal(await last.vidOf("a", "17"), two);
  await last.vdis.close();
});

test("a snapshot with a tag that is taken is refused", async () => {
  const { vdis, objects, writeHeader, vidOf } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  await vdis.snapshot(["a"], "one");
  const vid = await vidOf("a");
  await writeHeader(vid, { tag: "one" });
  const request = newVdi("a", { snapshot: true, baseVid: vid });
  await assert.rejects(objects.newVdi(request), { refusal: "vdi-exists" });
  await writeHeader(vid, { tag: "two" });
  await objects.newVdi(request);
  assert.deepEqual(
    vdis.registry.snapshotsOf("a").map(({ tag }) => tag),
    ["one", "two"],
  );
  await vdis.close();
});

test("a header takes a larger size, and nothing else that a client may have wrong", async () => {
  const { vdis, header, writeHeader, vidOf } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  await vdis.snapshot(["a"], "one");
  await vdis.resize("a", 2 * objectBytes, false);
  const [one, tip] = [await vidOf("a", "one"), await vidOf("a")];
  const before = await header(tip);
  const records = vdis.store.catalog.last;
  await writeHeader(tip, {
    name: "other",
    sizeBytes: objectBytes,
    snapshotMs: 12345678,
    createdMs: 5,
    snapId: 77,
    vid: 88,
    parentVid: 99,
    copies: 9,
    copyPolicy: 0x11,
    blockSizeShift: 30,
    storePolicy: 1,
  });
  assert.deepEqual(await header(tip), before);
  assert.equal(vdis.store.catalog.last, records);
  await writeHeader(tip, { sizeBytes: 3 * objectBytes + 1 });
  assert.equal((await header(tip)).sizeBytes, 3 * objectBytes + 512);
  await assert.rejects(writeHeader(tip, { sizeBytes: 2 ** 42 + 1 }), { refusal: "invalid" });
  // Somebody froze the disk of a client that grows it: it must learn of that.
  await assert.rejects(writeHeader(one, { sizeBytes: 9 * objectBytes }), { refusal: "read-only" });
  await writeHeader(one, { tag: "", snapshotMs: 0 });
  assert.equal((await header(one)).tag, "one");
  await assert.rejects(writeHeader(tip, { tag: "a\nb" }), { refusal: "invalid" });
  await vdis.close();
});

test("entries that say what is so are nothing; others are an old map's", async () => {
  const { vdis, objects, writeOwners, owners, vidOf } = await openMemoryObjects();
  await vdis.create("a", 4 * objectBytes);
  await vdis.volume("a").write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  await vdis.snapshot(["a"], "two");
  const [one, two, tip] = [await vidOf("a", "one"), await vidOf("a", "two"), await vidOf("a")];
  await objects.create(dataOf(tip, 1), { offset: 0, chunks: filled(2) });
  const records = vdis.store.catalog.last;
  await writeOwners(tip, [one, tip, 0, 0, 0, 0]);
  await writeOwners(tip, [tip], 1);
  await writeOwners(one, [one, 0]);
  await objects.write(inodeOf(tip), 4664, []);
  for (const [owner, index] of [
    [tip, 0],
    [two, 0],
    [tip, 2],
    [one, 1],
    [12345, 3],
    [tip, 4],
  ] as const) {
    await assert.rejects(writeOwners(tip, [owner], index), { refusal: "stale" }, `${index}`);
  }
  await assert.rejects(writeOwners(two, [two]), { refusal: "stale" });
  // References behind the entries are not kept.
  await objects.write(inodeOf(tip), 4_198_968, [Buffer.alloc(8, 1)]);
  await assert.rejects(async () => objects.write(inodeOf(tip), 12_587_575, [Buffer.alloc(2)]), {
    refusal: "invalid",
  });
  assert.equal(vdis.store.catalog.last, records);
  assert.deepEqual(await owners(tip, 4), [one, tip, 0, 0]);
  // The owner was deleted: its heir has what it had.
  await vdis.deleteSnapshot("a", "one");
  await vdis.store.clean();
  await writeOwners(tip, [one, tip]);
  await writeOwners(tip, [two, tip]);
  await vdis.close();
});

test("one entry that becomes zero is a trim", async () => {
  const { vdis, objects, writeOwners, owners, vidOf, dataAt } = await openMemoryObjects();
  await vdis.create("a", 2 * objectBytes + 512);
  for (const at of [0, 1]) await vdis.volume("a").write(filled(1), at * objectBytes);
  await vdis.volume("a").write([Buffer.alloc(512, 1)], 2 * objectBytes);
  await vdis.snapshot(["a"], "one");
  const [one, tip] = [await vidOf("a", "one"), await vidOf("a")];
  const points = vdis.store.state.points.size;
  await writeOwners(tip, [0], 1);
  await writeOwners(tip, [0], 2);
  assert.deepEqual(await owners(tip, 3), [one, 0, 0]);
  assert.equal(vdis.store.state.points.size, points, "and makes no point");
  // Of a snapshot it is nothing.
  await writeOwners(one, [0], 0);
  await writeOwners(one, [0, 0, 0], 0);
  assert.deepEqual(await owners(one, 3), [one, one, one]);
  assert.equal(await dataAt(one, 2), 1);
  await objects.create(dataOf(tip, 1), { offset: 0, chunks: filled(2) });
  assert.deepEqual(await owners(tip, 3), [one, tip, 0]);
  await vdis.close();
});
