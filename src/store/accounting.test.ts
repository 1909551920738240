import assert from "node:assert/strict";
import { test } from "node:test";
import { blocks, StoreWorld } from "../../test/store/store-world.ts";
import { chunkBlocks } from "./formats/map-node.ts";
import { positionsAt } from "./map/nodes.ts";
import type { Point } from "./point.ts";
import { firstSegmentId } from "./segment.ts";

/** Every block that a point maps, by number: its location, or "zero". */
async function locationsOf(point: Point): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  const indexes = new Set(
    blocks.flatMap((block) =>
      Array.from({ length: 6 }, (_, at) => Math.floor(block / chunkBlocks) + at),
    ),
  );
  for (const index of indexes) {
    const chunk = await point.map.load(index);
    const words = chunk?.words;
    if (words === undefined) continue;
    for (let slot = 0; slot < chunkBlocks; slot++) {
      const id = words[slot] as number;
      if (id === 0) continue;
      const isData = id >= firstSegmentId;
      found.set(index * chunkBlocks + slot, isData ? `${id}/${words[positionsAt + slot]}` : "zero");
    }
  }
  return found;
}

/** Counts everything anew, over all maps, and holds it against what is kept. */
async function recount(world: StoreWorld): Promise<void> {
  const points = [...world.store.state.points.values()];
  const maps = new Map<Point, Map<number, string>>();
  for (const point of points) maps.set(point, await locationsOf(point));
  const holders = new Map<string, Point[]>();
  for (const [point, map] of maps) {
    for (const location of map.values()) {
      if (location === "zero") continue;
      holders.set(location, [...(holders.get(location) ?? []), point]);
    }
  }
  for (const [point, map] of maps) {
    assert.equal(point.mappedBlocks, map.size, `mapped blocks of point ${point.id}`);
    if (point.children.size > 1) continue;
    const alone = [...map.values()].filter(
      (location) => location !== "zero" && holders.get(location)?.length === 1,
    );
    assert.equal(point.exclusiveBlocks, alone.length, `exclusive blocks of point ${point.id}`);
  }
  const live = new Map<number, number>();
  for (const location of holders.keys()) {
    const id = Number(location.split("/")[0]);
    live.set(id, (live.get(id) ?? 0) + 1);
  }
  for (const segment of world.store.state.segments.values()) {
    assert.equal(segment.live, live.get(segment.id) ?? 0, `live blocks of segment ${segment.id}`);
  }
}

async function step(world: StoreWorld): Promise<void> {
  const { random, disks, snapshots } = world;
  const disk = disks[random.below(disks.length)];
  const snapshot = snapshots[random.below(snapshots.length)];
  assert.ok(disk !== undefined);
  switch (random.below(14)) {
    case 0:
    case 1:
      return world.snapshot([disk]);
    case 2:
      if (snapshot !== undefined) await world.rollback(disk, snapshot, random.below(2) === 0);
      return;
    case 3:
      if (snapshot !== undefined) await world.deleteSnapshot(snapshot);
      return;
    case 4:
      return world.trim(disk);
    case 5:
      return world.store.checkpoint();
    case 6:
      await world.store.clean();
      return;
    case 7:
      return world.burst(disk, 10);
    default:
      return world.write(disk);
  }
}

for (const seed of [1, 2, 3, 4]) {
  test(`counts are those of a recount over all maps, whatever happened (seed ${seed})`, async () => {
    const world = new StoreWorld(seed);
    await world.open();
    await world.addDisk("a");
    await world.addDisk("b");
    for (let round = 0; round < 12; round++) {
      for (let at = 0; at < 10; at++) await step(world);
      // Purging is in the background; when it is done, everything is exact.
      await world.store.clean();
      await recount(world);
    }
    await world.crash("nothing");
    await world.store.clean();
    await recount(world);
    await world.store.close();
    await world.reopen();
    await recount(world);
    await world.store.close();
  });
}

test("a point with two children that is purged keeps what they share, until one is left", async () => {
  const world = new StoreWorld(9);
  await world.open();
  await world.addDisk("a");
  const [disk] = world.disks;
  assert.ok(disk !== undefined);
  for (let at = 0; at < 30; at++) await world.write(disk);
  await world.snapshot([disk]);
  const [base] = world.snapshots;
  assert.ok(base !== undefined);
  // Two points on the snapshot: the tip, and one that was rolled back from.
  await world.write(disk);
  await world.snapshot([disk]);
  await world.rollback(disk, base);
  await world.write(disk);
  const { point } = base;
  assert.equal(point.children.size, 2);
  await world.deleteSnapshot(base);
  await world.store.clean();
  assert.ok(world.store.state.points.has(point.id), "it stays, unseen");
  await world.verify();
  await recount(world);
  const [other] = world.snapshots;
  assert.ok(other !== undefined);
  await world.deleteSnapshot(other);
  await world.store.clean();
  assert.equal(world.store.state.points.has(point.id), false, "one child is left");
  await world.verify();
  await recount(world);
  await world.store.close();
});
