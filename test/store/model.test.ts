import assert from "node:assert/strict";
import { test } from "node:test";
import { isSoak } from "../support/soak.ts";
import { StoreWorld } from "./store-world.ts";

const worlds = Number(process.env.KELPIE_MODEL_WORLDS ?? (isSoak ? 300 : 12));
const firstSeed = Number(process.env.KELPIE_MODEL_SEED ?? 1);

test("random histories with crashes leave what the model allows", async () => {
  for (let seed = firstSeed; seed < firstSeed + worlds; seed++) {
    try {
      await runWorld(seed);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
});

async function runWorld(seed: number): Promise<void> {
  const world = new StoreWorld(seed);
  const { random } = world;
  await world.open();
  await world.addDisk("a");
  await world.addDisk("b");
  const steps = 150;
  for (let step = 0; step < steps; step++) {
    await oneStep(world);
    if (random.below(12) === 0) await world.verify();
  }
  await world.verify();
  await world.check();
  await world.store.close();
  await world.reopen();
  assert.equal(world.store.replayedEntries, 0, "a clean stop leaves nothing to recover");
  await world.check();
}

async function oneStep(world: StoreWorld): Promise<void> {
  const { random, disks, snapshots } = world;
  const disk = disks[random.below(disks.length)];
  const snapshot = snapshots[random.below(snapshots.length)];
  assert.ok(disk !== undefined);
  const kinds = ["random", "nothing", "everything"] as const;
  const kind = kinds[random.below(3)] as "random";
  switch (random.below(20)) {
    case 0:
      return world.snapshot(random.below(2) === 0 ? [disk] : [...disks]);
    case 1:
      if (snapshot !== undefined) await world.rollback(disk, snapshot, random.below(2) === 0);
      return;
    case 2:
      if (snapshot !== undefined) await world.deleteSnapshot(snapshot);
      return;
    case 3:
      return world.flush(disk);
    case 4:
      return world.trim(disk);
    case 5:
      return world.store.checkpoint();
    case 6:
      await world.store.clean();
      return;
    case 7:
      return world.crash(kind);
    case 8:
      return world.burst(disk, 40);
    case 9:
      return world.crashDuring(kind, () => world.burst(disk, 60));
    case 10:
      return world.crashDuring(kind, () => world.store.clean());
    case 11:
      return world.crashDuring(kind, async () => {
        await Promise.all([world.burst(disk, 30), world.store.checkpoint()]);
      });
    default:
      return world.write(disk);
  }
}
