import assert from "node:assert/strict";
import { test } from "node:test";
import { openMemoryObjects } from "../../../test/support/memory-objects.ts";
import { filled } from "../../../test/support/memory-vdis.ts";
import { PointMap } from "../../store/map/point-map.ts";

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

/** A disk over several pages of the map, each of which differs from point to point. */
async function openManyPages({ snapshots, pages }: { snapshots: number; pages: number }) {
  const opened = await openMemoryObjects();
  const { vdis, vidOf } = opened;
  await vdis.create("a", pages * 1024 * objectBytes);
  for (let at = 0; at < snapshots; at++) {
    for (let page = 0; page < pages; page++) {
      await vdis.volume("a").write(filled(1), (page * 1024 + 8) * objectBytes);
    }
    await vdis.snapshot(["a"]);
  }
  return { ...opened, tip: await vidOf("a") };
}

test("who owns one object is found without looking at all others", async (t) => {
  const snapshots = 20;
  const { vdis, owners, tip } = await openManyPages({ snapshots, pages: 6 });
  const pages = t.mock.method(PointMap.prototype, "loadPage").mock;
  assert.deepEqual(await owners(tip, 1, 8), [tip - 1]);
  const alone = pages.callCount();
  assert.ok(alone <= 2 * (snapshots + 1), `${alone} pages for one entry`);
  assert.deepEqual(await owners(tip, 2, 9), [0, 0]);
  assert.ok(pages.callCount() - alone <= 2, "what is known already is not looked for again");
  await vdis.close();
});

test("what many ask for at once is looked for once", async (t) => {
  const snapshots = 20;
  const { vdis, owners, tip } = await openManyPages({ snapshots, pages: 2 });
  const pages = t.mock.method(PointMap.prototype, "loadPage").mock;
  const asked = Array.from({ length: 32 }, (_, at) => owners(tip, 1, at));
  const found = (await Promise.all(asked)).flat();
  assert.deepEqual(
    found,
    Array.from({ length: 32 }, (_, at) => (at === 8 ? tip - 1 : 0)),
  );
  const count = pages.callCount();
  assert.ok(count <= 2 * (snapshots + 32), `${count} pages for 32 entries`);
  await vdis.close();
});

test("others have their turn while owners are looked for", async () => {
  const { vdis, owners, tip } = await openManyPages({ snapshots: 100, pages: 4 });
  let turns = 0;
  let isDone = false;
  const others = () => {
    turns++;
    if (!isDone) setImmediate(others);
  };
  setImmediate(others);
  await owners(tip, 4096);
  isDone = true;
  // 100 points, 4 pages of 1,024 chunks of each.
  assert.ok(turns >= 5, `${turns} turns`);
  await vdis.close();
});

test("owners are right while snapshots are deleted and cleaned away", async () => {
  const { vdis, objects, owners, tip } = await openManyPages({ snapshots: 100, pages: 2 });
  await vdis.store.checkpoint();
  const looking = Array.from({ length: 8 }, () => owners(tip, 2048));
  const deleting = (async () => {
    for (let snapId = 1; snapId < 100; snapId++) await vdis.deleteSnapshot("a", String(snapId));
    await vdis.store.clean();
  })();
  for (const found of await Promise.all(looking)) {
    assert.deepEqual(
      [found[8], found[1032], found.filter((owner) => owner !== 0).length],
      [tip - 1, tip - 1, 2],
    );
  }
  await deleting;
  assert.equal((await objects.states()).filter(({ deleted }) => deleted).length, 99);
  await vdis.close();
});
