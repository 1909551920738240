import assert from "node:assert/strict";
import { test } from "node:test";
import { openMemoryObjects } from "../../../test/support/memory-objects.ts";
import { filled } from "../../../test/support/memory-vdis.ts";
import { VidTable } from "./vid-table.ts";

/** Snapshots that clients of Sheepdog saw, all deleted and cleaned away. */
async function openDeleted(snapshots: number) {
  const opened = await openMemoryObjects();
  const { vdis, vidOf } = opened;
  await vdis.create("a", 2 ** 22);
  await vdis.volume("a").write(filled(1), 0);
  const vids: number[] = [];
  for (let at = 0; at < snapshots; at++) {
    vids.push(await vidOf("a"));
    await vdis.snapshot(["a"]);
  }
  const tip = await vidOf("a");
  for (let snapId = 1; snapId <= snapshots; snapId++) {
    await vdis.deleteSnapshot("a", String(snapId));
  }
  await vdis.store.clean();
  assert.equal(vdis.store.state.points.size, 1);
  return { ...opened, vids, tip };
}

test("which vids are deleted is told without looking for what took them over", async (t) => {
  const { vdis, objects, vids, tip } = await openDeleted(60);
  const lookups = t.mock.method(VidTable.prototype, "childrenOf").mock;
  const bitmap = await objects.vidsDeleted();
  const bits = bitmap.reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0);
  assert.equal(bits, vids.length);
  const states = await objects.states();
  assert.deepEqual(
    states.map(({ vid, deleted }) => [vid, deleted]),
    [...vids.map((vid) => [vid, true]), [tip, false]],
  );
  assert.equal(lookups.callCount(), 0);
  await vdis.close();
});

test("what took a deleted vid over is looked for once for all between the two", async (t) => {
  for (const order of ["oldest first", "newest first"]) {
    const { vdis, dataAt, vids } = await openDeleted(60);
    const { mock } = t.mock.method(VidTable.prototype, "childrenOf");
    for (const vid of order === "oldest first" ? vids : vids.toReversed()) {
      assert.equal(await dataAt(vid, 0), 1);
    }
    assert.ok(mock.callCount() <= 60, `${mock.callCount()} lookups, ${order}`);
    mock.restore();
    await vdis.close();
  }
});

test("vids lead on when what took them over goes itself, and nowhere with the last", async (t) => {
  const { vdis, dataAt, vids, vidOf } = await openDeleted(10);
  const [oldest = 0] = vids;
  assert.equal(await dataAt(oldest, 0), 1);
  await vdis.snapshot(["a"], "more");
  await vidOf("a");
  await vdis.volume("a").write(filled(2), 4096);
  await vdis.deleteSnapshot("a", "more");
  await vdis.store.clean();
  for (const vid of vids) assert.equal(await dataAt(vid, 0, 4096), 2);
  await vdis.delete("a");
  await vdis.purge();
  await vdis.store.clean();
  const lookups = t.mock.method(VidTable.prototype, "childrenOf").mock;
  for (let round = 0; round < 3; round++) {
    for (const vid of vids) await assert.rejects(dataAt(vid, 0), { refusal: "stale" });
  }
  assert.ok(lookups.callCount() <= 11, `${lookups.callCount()} lookups`);
  await vdis.close();
});

test("of too many vids, the states leave out those that no name leads to", async () => {
  const { vdis, objects, tip } = await openDeleted(3);
  assert.equal((await objects.states({ max: 4 })).length, 4);
  const few = await objects.states({ max: 3 });
  assert.deepEqual(
    few.map(({ vid, deleted }) => [vid, deleted]),
    [[tip, false]],
  );
  await vdis.close();
});
