import assert from "node:assert/strict";
import { test } from "node:test";
import { openMemoryObjects } from "../../../test/support/memory-objects.ts";
import { filled } from "../../../test/support/memory-vdis.ts";

const objectBytes = 4 * 2 ** 20;

test("an object belongs to the point whose chunk of the map it stands in", async () => {
  const { vdis, vidOf, owners } = await openMemoryObjects();
  await vdis.create("a", 6 * objectBytes);
  const volume = vdis.volume("a");
  await volume.write(filled(1), 0);
  await volume.write(filled(1), objectBytes);
  await volume.zero(2 * objectBytes, 4096, { keepAllocated: true });
  await vdis.snapshot(["a"], "one");
  await volume.write(filled(2), objectBytes + 8192);
  await volume.write(filled(2), 3 * objectBytes);
  await vdis.snapshot(["a"], "two");
  await volume.trim(0, objectBytes);
  await volume.write(filled(3), 4 * objectBytes);
  const [one, two, tip] = [await vidOf("a", "one"), await vidOf("a", "two"), await vidOf("a")];
  assert.deepEqual(await owners(one, 6), [one, one, one, 0, 0, 0]);
  assert.deepEqual(await owners(two, 6), [one, two, one, two, 0, 0]);
  assert.deepEqual(await owners(tip, 6), [0, two, one, two, tip, 0]);
  assert.deepEqual(await owners(tip, 3, 2), [one, two, tip], "a part is asked for by itself");
  await volume.write(filled(4), 5 * objectBytes);
  assert.deepEqual(await owners(tip, 6), [0, two, one, two, tip, tip], "at once");
  await vdis.rollback(["a"], "one", false);
  const rolled = await vidOf("a");
  assert.deepEqual(await owners(rolled, 6), [one, one, one, 0, 0, 0]);
  await vdis.close();
});

test("owners are the same after a checkpoint and a restart, and after a crash", async () => {
  const { vdis, vidOf, owners, files } = await openMemoryObjects();
  await vdis.create("a", 2000 * objectBytes);
  const volume = vdis.volume("a");
  // Over several pages of the map.
  for (const at of [0, 1, 1023, 1024, 1999]) await volume.write(filled(1), at * objectBytes);
  await vdis.snapshot(["a"], "one");
  await vdis.store.checkpoint();
  await volume.write(filled(2), 1023 * objectBytes);
  await volume.trim(objectBytes, objectBytes);
  await vdis.snapshot(["a"], "two");
  await volume.write(filled(3), 1999 * objectBytes);
  await volume.flush();
  const vids = [await vidOf("a", "one"), await vidOf("a", "two"), await vidOf("a")] as const;
  const [one, two, tip] = vids;
  const expected = Array.from({ length: 2000 }, () => 0);
  Object.assign(expected, { 0: one, 1023: two, 1024: one, 1999: tip });
  assert.deepEqual(await owners(tip, 2000), expected);
  const before = await Promise.all(vids.map((vid) => owners(vid, 2000)));
  let left = files.crashKeepingNothing();
  for (const how of ["crash", "restart"]) {
    const again = await openMemoryObjects(left);
    const after = await Promise.all(vids.map((vid) => again.owners(vid, 2000)));
    assert.deepEqual(after, before, how);
    await again.vdis.close();
    left = again.files;
  }
});

test("a deleted snapshot's objects are those of what stands on it", async () => {
  const { vdis, vidOf, owners } = await openMemoryObjects();
  await vdis.create("a", 3 * objectBytes);
  const volume = vdis.volume("a");
  await volume.write(filled(1), 0);
  await volume.write(filled(1), objectBytes);
  await vdis.snapshot(["a"], "one");
  await volume.write(filled(2), objectBytes);
  await vdis.snapshot(["a"], "two");
  const [two, tip] = [await vidOf("a", "two"), await vidOf("a")];
  await vdis.deleteSnapshot("a", "one");
  await vdis.store.clean();
  assert.deepEqual(await owners(two, 3), [two, two, 0]);
  assert.deepEqual(await owners(tip, 3), [two, two, 0]);
  await vdis.close();
});

test("owners of two hundred snapshots, each with an object of its own", async () => {
  const { vdis, vidOf, owners } = await openMemoryObjects();
  const count = 200;
  await vdis.create("a", count * objectBytes);
  for (let at = 0; at < count; at++) {
    await vdis.volume("a").write(filled(1), at * objectBytes);
    await vdis.snapshot(["a"]);
  }
  const tip = await vidOf("a");
  const first = await vidOf("a", 1);
  assert.deepEqual(
    await owners(tip, count),
    Array.from({ length: count }, (_, at) => first + at),
  );
  assert.equal(tip, first + count);
  await vdis.close();
});
