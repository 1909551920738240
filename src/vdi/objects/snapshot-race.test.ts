import assert from "node:assert/strict";
import { test } from "node:test";
import { holdNext } from "../../../test/support/hold-next.ts";
import {
  dataOf,
  inodeOf,
  newVdi,
  openMemoryObjects,
  select,
} from "../../../test/support/memory-objects.ts";
import { byteAt, filled } from "../../../test/support/memory-vdis.ts";

/*
 * A client that takes a snapshot reads the working VDI, writes the tag into its inode and sends NEW_VDI.
 * Others may have moved the disk on in between.
 */

/** A disk "a" that a client has opened as `vid`, full of ones. */
async function openDisk() {
  const opened = await openMemoryObjects();
  const { vid } = await opened.objects.newVdi(newVdi("a"));
  await opened.objects.create(dataOf(vid, 0), { offset: 0, chunks: filled(1) });
  /** By a machine on the disk, which learns of a snapshot by itself. */
  const write = (value: number) => opened.vdis.volume("a").write(filled(value), 0);
  const snapshot = () => opened.objects.newVdi(newVdi("a", { snapshot: true, baseVid: vid }));
  const tags = () => opened.vdis.registry.snapshotsOf("a").map(({ tag }) => tag);
  return { ...opened, vid, write, snapshot, tags };
}

function tagBytes(tag: string): Uint8Array[] {
  const bytes = Buffer.alloc(256);
  bytes.write(tag);
  return [bytes];
}

for (const others of [1, 2]) {
  test(`${others} snapshots by others before the tag is written: nothing is undone`, async () => {
    const { vdis, objects, vid, write, snapshot, tags, writeHeader, vidOf, dataAt } =
      await openDisk();
    const wanted = [];
    for (let at = 1; at <= others; at++) {
      await vdis.snapshot(["a"], `other${at}`);
      wanted.push(`other${at}`);
      await write(at + 1);
    }
    await writeHeader(vid, { tag: "mine", snapshotMs: 0 });
    const { vid: next } = await snapshot();
    assert.deepEqual(tags(), [...wanted, "mine"]);
    assert.equal(await vidOf("a"), next);
    assert.equal(await byteAt(vdis.volume("a"), 0), others + 1);
    assert.equal(await dataAt(await vidOf("a", "mine"), 0), others + 1);
    assert.equal(await dataAt(await vidOf("a", "other1"), 0), 1);
    assert.equal(await vidOf("a", "other1"), vid);
    // As old QEMU's loadvm has it, which writes no tag: that stays a rebase.
    const { vid: rebased } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: vid }));
    assert.equal(await dataAt(rebased, 0), 1);
    assert.deepEqual(tags(), [...wanted, "mine", ""]);
    await vdis.close();
  });
}

test("a snapshot by others between tag and NEW_VDI: nothing is undone, also after a crash", async () => {
  const { vdis, objects, vid, write, files } = await openDisk();
  await objects.write(inodeOf(vid), 256, tagBytes("mine"));
  await vdis.snapshot(["a"], "other");
  await write(2);
  await objects.flush((await objects.lookup(select("a"))).vid);
  const again = await openMemoryObjects(files.crashKeepingNothing());
  const { vid: next } = await again.objects.newVdi(newVdi("a", { snapshot: true, baseVid: vid }));
  assert.equal(await again.dataAt(next, 0), 2);
  assert.equal(await again.dataAt(await again.vidOf("a", "mine"), 0), 2);
  assert.equal(await again.vidOf("a", "other"), vid);
  await again.vdis.close();
});

test("a snapshot by others while NEW_VDI is at work: nothing is undone", async () => {
  for (const tag of ["mine", ""]) {
    const { vdis, objects, vid, write, snapshot, tags, dataAt } = await openDisk();
    await objects.write(inodeOf(vid), 256, tagBytes(tag));
    const other = vdis.snapshot(["a"], "other").then(() => write(2));
    const { vid: next } = await snapshot();
    await other;
    assert.equal(await dataAt(next, 0), 2);
    assert.deepEqual(new Set(tags()), new Set(["other", tag]));
    await vdis.close();
  }
});

test("the tag of a snapshot that is there is not changed by it, nor is a tag given twice", async () => {
  const { vdis, objects, vid, snapshot, tags, header, write, dataAt, vidOf } = await openDisk();
  await vdis.snapshot(["a"]);
  await write(2);
  await objects.write(inodeOf(vid), 256, tagBytes("mine"));
  assert.deepEqual(tags(), [""]);
  assert.equal((await header(vid)).tag, "");
  await vdis.snapshot(["a"], "mine");
  await assert.rejects(snapshot(), { refusal: "vdi-exists" });
  assert.equal(await dataAt(await vidOf("a"), 0), 2);
  await vdis.close();
});

test("a snapshot of what the disk does not stand on any more is refused, once", async () => {
  const { vdis, objects, vid, write, tags, writeHeader, dataAt, vidOf } = await openDisk();
  await vdis.snapshot(["a"], "zero");
  await write(2);
  const before = await vidOf("a");
  await vdis.snapshot(["a"], "other");
  await vdis.rollback(["a"], "zero", false);
  await write(3);
  await writeHeader(before, { tag: "mine", snapshotMs: 0 });
  const request = newVdi("a", { snapshot: true, baseVid: before });
  await assert.rejects(objects.newVdi(request), { refusal: "stale" });
  assert.equal(await dataAt(await vidOf("a"), 0), 3);
  assert.deepEqual(tags(), ["zero", "other"]);
  assert.equal(await dataAt(vid, 0), 1);
  await vdis.close();
});

test("a rollback while NEW_VDI is at work is not undone", async () => {
  for (const tag of ["mine", ""]) {
    const { vdis, objects, write, tags, dataAt, vidOf } = await openDisk();
    await vdis.snapshot(["a"], "zero");
    await write(2);
    const tip = await vidOf("a");
    await objects.write(inodeOf(tip), 256, tagBytes(tag));
    const rolled = vdis.rollback(["a"], "zero", false);
    const request = newVdi("a", { snapshot: true, baseVid: tip });
    await assert.rejects(objects.newVdi(request), { refusal: "stale" });
    await rolled;
    assert.equal(await dataAt(await vidOf("a"), 0), 1);
    assert.deepEqual(tags(), ["zero"]);
    await vdis.close();
  }
});

test("a machine's state is not given to a snapshot that is not the one it was saved with", async () => {
  const { vdis, objects, vid, write, writeHeader, header, dataAt, vidOf, tags } = await openDisk();
  await objects.create({ kind: "vmstate", vid, index: 0 }, { offset: 0, chunks: filled(5) });
  await vdis.snapshot(["a"], "other");
  await write(2);
  const fields = { tag: "mine", vmStateBytes: 4096, snapshotMs: 0 };
  await assert.rejects(writeHeader(vid, fields), { refusal: "read-only" });
  const { tag, vmStateBytes } = await header(vid);
  assert.deepEqual([tag, vmStateBytes], ["other", 0]);
  // The same with the snapshot by others between the two requests.
  const tip = await vidOf("a");
  await writeHeader(tip, fields);
  await vdis.snapshot(["a"], "third");
  await write(3);
  const request = newVdi("a", { snapshot: true, baseVid: tip });
  await assert.rejects(objects.newVdi(request), { refusal: "stale" });
  assert.equal(await dataAt(await vidOf("a"), 0), 3);
  assert.deepEqual(tags(), ["other", "third"]);
  await vdis.close();
});

test("what is read or flushed while a snapshot is taken is answered, and not refused", async () => {
  const { vdis, objects, vid, write, files } = await openDisk();
  const held = holdNext(files, "sync", () => true);
  const taken = vdis.snapshot(["a"], "other");
  await held.reached;
  const target = Buffer.alloc(4096);
  const reading = (async () => await objects.read(dataOf(vid, 0), 0, target))();
  const flushing = (async () => await objects.flush(vid))();
  held.letGo();
  await taken;
  await write(2);
  await Promise.all([reading, flushing]);
  assert.ok(target.every((byte) => byte === 1));
  // What was asked for at the vid that is a snapshot's now is refused only if it changes something.
  const late = (async () => await objects.write(dataOf(vid, 0), 0, filled(3)))();
  await assert.rejects(late, (error) => (error as { refusal?: string }).refusal === "read-only");
  await vdis.close();
});
