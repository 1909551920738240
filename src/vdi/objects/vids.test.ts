import assert from "node:assert/strict";
import { test } from "node:test";
import { openMemoryObjects } from "../../../test/support/memory-objects.ts";
import { filled } from "../../../test/support/memory-vdis.ts";

const mebibyte = 2 ** 20;

function vidsIn(bitmap: Uint8Array): number[] {
  const vids: number[] = [];
  bitmap.forEach((byte, at) => {
    for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) vids.push(at * 8 + bit);
  });
  return vids;
}

test("points of a name have vids from its hash on, in the order of their snap ids", async () => {
  const { vdis, vidOf } = await openMemoryObjects();
  await vdis.create("test", mebibyte);
  await vdis.snapshot(["test"], "one");
  await vdis.snapshot(["test"], "two");
  const records = vdis.store.catalog.last;
  assert.equal(await vidOf("test"), 0x7c2b27);
  assert.equal(vdis.store.catalog.last, records + 1, "one record for all of them");
  assert.equal(await vidOf("test", "one"), 0x7c2b25);
  assert.equal(await vidOf("test", 2), 0x7c2b26);
  assert.equal(vdis.store.catalog.last, records + 1, "and none when they have theirs");
  await vdis.snapshot(["test"], "three");
  assert.equal(await vidOf("test", "three"), 0x7c2b27, "a tip keeps its vid when it is frozen");
  assert.equal(await vidOf("test"), 0x7c2b28);
  await vdis.close();
});

test("a selector finds what has the tag or the id; what it misses says what there is", async () => {
  const { vdis, objects, vidOf } = await openMemoryObjects();
  await vdis.create("a", mebibyte);
  await vdis.snapshot(["a"], "one");
  await vdis.snapshot(["a"], "two");
  const both = await objects.lookup({ name: "a", tag: "one", snapId: 2 });
  assert.equal(both.vid, await vidOf("a", "two"), "the newest of what matches");
  await assert.rejects(
    vidOf("a", 3),
    { refusal: "no-tag" },
    "the working VDI's id selects nothing",
  );
  await assert.rejects(vidOf("a", "no"), { refusal: "no-tag" });
  await assert.rejects(vidOf("b"), { refusal: "no-vdi" });
  await assert.rejects(vidOf("b", "one"), { refusal: "no-vdi" });
  await vdis.delete("a");
  await assert.rejects(vidOf("a"), { refusal: "no-vdi" });
  await assert.rejects(vidOf("a", "no"), { refusal: "no-vdi" });
  assert.equal(await vidOf("a", "one"), (await vidOf("a", "two")) - 1);
  await vdis.close();
});

test("colliding names share a run; the last vid is followed by the first", async () => {
  const { vdis, vidOf } = await openMemoryObjects();
  await vdis.create("05421217", mebibyte);
  await vdis.create("01909709", mebibyte);
  assert.equal(await vidOf("05421217"), 0xffffff);
  assert.equal(await vidOf("01909709"), 1, "no vid is 0");
  await vdis.snapshot(["05421217"], "s");
  assert.equal(await vidOf("05421217"), 2);
  await vdis.close();
});

test("what a clone stands on has its vids before it, whatever its name", async () => {
  const { vdis, objects, vidOf } = await openMemoryObjects();
  await vdis.create("test", mebibyte);
  await vdis.snapshot(["test"], "s");
  await vdis.clone("test", "s", "Alice");
  await vdis.snapshot(["Alice"], "t");
  await vdis.clone("Alice", "t", "base");
  // Only its children keep this one in the store; nobody can ask for it by name.
  await vdis.clone("Alice", "t", "other");
  await vdis.deleteSnapshot("Alice", "t");
  // The deleted one has the first vid of the run.
  assert.equal(await vidOf("base"), 0x54c279);
  const { vids } = vdis.registry.objects;
  const parents = [...vids.values()].map(({ vid, parentVid }) => [vid, parentVid]);
  assert.deepEqual(parents, [
    [0x7c2b25, 0],
    [0x7c2b26, 0x7c2b25],
    [0x54c278, 0x7c2b25],
    [0x54c279, 0x54c278],
  ]);
  assert.deepEqual(vidsIn(await objects.vidsDeleted()), [0x54c278]);
  await vdis.close();
});

test("the bitmaps list all names' vids, and which of them no name leads to", async () => {
  const { vdis, objects, vidOf } = await openMemoryObjects();
  await vdis.create("test", mebibyte);
  await vdis.snapshot(["test"], "one");
  await vdis.create("base", mebibyte);
  assert.deepEqual(vidsIn(await objects.vidsDeleted()), []);
  assert.deepEqual(vidsIn(await objects.vidsInUse()), [0x54c278, 0x7c2b25, 0x7c2b26]);
  await vdis.rollback(["test"], "one", false);
  await vdis.deleteSnapshot("test", "one");
  await vdis.delete("base");
  assert.deepEqual(vidsIn(await objects.vidsInUse()), [0x54c278, 0x7c2b25, 0x7c2b26, 0x7c2b27]);
  assert.deepEqual(vidsIn(await objects.vidsDeleted()), [0x54c278, 0x7c2b25, 0x7c2b26]);
  await vdis.undelete("base", {});
  assert.equal(await vidOf("base"), 0x54c278, "what comes back is what it was");
  await vdis.delete("base");
  await vdis.undelete("base", { as: "Alice" });
  assert.equal(await vidOf("Alice"), 0x15d167, "under another name it is another disk's");
  await vdis.close();
});

test("vids are the same after a restart, a checkpoint or a crash, and never given twice", async () => {
  const { vdis, files, vidOf } = await openMemoryObjects();
  await vdis.create("test", mebibyte);
  await vdis.snapshot(["test"], "one");
  await vidOf("test");
  await vdis.delete("test");
  await vdis.purge();
  const crashed = await openMemoryObjects(files.crashKeepingNothing());
  assert.equal(await crashed.vidOf("test", "one"), 0x7c2b25);
  await crashed.vdis.create("test", mebibyte);
  assert.equal(await crashed.vidOf("test"), 0x7c2b27, "the purged one's is not given again");
  await crashed.vdis.store.checkpoint();
  await crashed.vdis.deleteSnapshot("test", "one");
  await crashed.vdis.close();
  const again = await openMemoryObjects(crashed.files);
  assert.equal(await again.vidOf("test"), 0x7c2b27);
  await again.vdis.snapshot(["test"], "two");
  assert.equal(await again.vidOf("test"), 0x7c2b28);
  assert.deepEqual(vidsIn(await again.objects.vidsDeleted()), [0x7c2b25, 0x7c2b26]);
  await again.vdis.close();
});

test("lookups at the same time as snapshots never give a vid to two points", async () => {
  const { vdis, vidOf } = await openMemoryObjects();
  await vdis.create("test", mebibyte);
  const looking = Array.from({ length: 20 }, () => vidOf("test"));
  const taking = (async () => {
    for (let at = 0; at < 10; at++) await vdis.snapshot(["test"]);
  })();
  await Promise.all([...looking, taking]);
  await vidOf("test");
  const { vids } = vdis.registry.objects;
  assert.equal(vids.size, 11);
  assert.equal(new Set([...vids.values()].map(({ point }) => point)).size, 11);
  await vdis.close();
});

/** Disk a with a client that has its vid, snapshots s1 and s2 that nobody of Sheepdog saw, clone k of s2. */
async function openUnseen() {
  const opened = await openMemoryObjects();
  const { vdis, vidOf } = opened;
  await vdis.create("a", 4 * mebibyte);
  await vdis.volume("a").write(filled(7), 0);
  const vid = await vidOf("a");
  await vdis.snapshot(["a"], "s1");
  await vdis.volume("a").write(filled(8), mebibyte);
  await vdis.snapshot(["a"], "s2");
  await vdis.clone("a", "s2", "k");
  return { ...opened, vid };
}

test("a vid leads over deleted snapshots that never had one to what stands on them", async () => {
  const { vdis, dataAt, objects, vid } = await openUnseen();
  await vdis.deleteSnapshot("a", "s2");
  await vdis.deleteSnapshot("a", "s1");
  await vdis.store.clean();
  assert.equal(await dataAt(vid, 0), 7);
  const write = async () => objects.write({ kind: "data", vid, index: 0 }, 0, filled(9));
  await assert.rejects(write(), { refusal: "read-only" }, "so that the client looks it up");
  // Now s2 goes too, into what is left on it.
  await vdis.delete("k");
  await vdis.purge();
  await vdis.store.clean();
  assert.equal(await dataAt(vid, 0), 7);
  await vdis.close();
});

test("it also does when one of those on a deleted snapshot was looked up before", async () => {
  const { vdis, dataAt, vidOf, vid } = await openUnseen();
  await vdis.deleteSnapshot("a", "s2");
  await vidOf("k");
  await vdis.deleteSnapshot("a", "s1");
  await vdis.delete("k");
  await vdis.purge();
  await vdis.store.clean();
  assert.equal(await dataAt(vid, 0), 7);
  await vdis.close();
});
