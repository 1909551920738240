import assert from "node:assert/strict";
import { test } from "node:test";
import { createMemoryHost } from "../../sim/memory-host.ts";
import { openDirectoryBackend } from "../../src/store/backend/directory.ts";
import { segmentKey } from "../../src/store/keys.ts";
import { Vdis } from "../../src/vdi/vdis.ts";
import { StoreWorld } from "./store-world.ts";

/** Holes that were found by reading the code; each lost or damaged data before it was mended. */

const blockBytes = 4096;

test("a body that was cleaned after the last checkpoint survives the sweep after a crash", async () => {
  const world = new StoreWorld(1, { maintenance: { usedFactor: 1, slackBytes: 0 } });
  await world.open();
  await world.addDisk("a");
  const { tip } = diskOf(world);
  for (let block = 0; block < 200; block++) await tip.write([filled(1)], block);
  await tip.flush();
  await world.store.checkpoint();
  for (let block = 0; block < 50; block += 2) await tip.write([filled(2)], block);
  await tip.flush();
  await letTimePass(world, 2500);
  assert.ok((await cleanedBodies(world)) > 0, "the background cleaned something");
  await tip.write([filled(3)], 199);
  await tip.flush();
  // Without cleaning, which would find the newer body by itself.
  const again = new StoreWorld(2);
  const left = world.host.files.crashKeepingEverything();
  again.host = createMemoryHost({ seed: 5, files: left });
  await again.open();
  await letTimePass(again, 4000);
  for (let block = 0; block < 200; block++) {
    const expected = block === 199 ? 3 : block < 50 && block % 2 === 0 ? 2 : 1;
    assert.equal(await firstByte(again, tip.point.id, block), expected, `block ${block}`);
  }
});

test("a sync that fails after a rollback does not bring back what was rolled back", async () => {
  const world = new StoreWorld(1);
  await world.open();
  await world.addDisk("a");
  const disk = diskOf(world);
  await disk.tip.write([filled(1)], 0);
  await world.snapshot([disk]);
  const snapshot = world.snapshots[0];
  assert.ok(snapshot !== undefined);
  await disk.tip.write([filled(7)], 0);
  await world.rollback(disk, snapshot, true);
  world.host.files.fail({ operation: "sync", on: (path) => path.includes("/logs/") });
  await disk.tip.write([filled(5)], 9);
  await disk.tip.flush();
  assert.equal(await firstByte(world, disk.tip.point.id, 0), 1);
  assert.equal(await firstByte(world, disk.tip.point.id, 9), 5);
});

test("what is written after a flatten is newer than what the flatten copied", async () => {
  const host = createMemoryHost({ seed: 1 });
  const vdis = await openVdis(host);
  await vdis.create("base", 2 ** 26);
  await vdis.volume("base").write([filled(1), filled(1)], 0);
  await vdis.snapshot(["base"], "s");
  await vdis.clone("base", "s", "c");
  await vdis.volume("c").write([filled(2)], 2 * blockBytes);
  await vdis.flatten("c");
  await vdis.volume("c").write([filled(9)], 0);
  await vdis.volume("c").flush();
  const left = host.files.crashKeepingEverything();
  const again = await openVdis(createMemoryHost({ seed: 2, files: left }));
  const target = Buffer.alloc(3 * blockBytes);
  await again.volume("c").read(target, 0);
  assert.deepEqual([target[0], target[blockBytes], target[2 * blockBytes]], [9, 1, 2]);
});

test("a map that is dropped from memory while its blocks are written is loaded again", async () => {
  const world = new StoreWorld(1, { mapBytesMax: 40_000 });
  await world.open();
  await world.addDisk("a");
  const { tip } = diskOf(world);
  for (let chunk = 0; chunk < 20; chunk++) await tip.write([filled(1)], chunk * 1024);
  await world.store.checkpoint();
  // The first write after a checkpoint copies its chunk, so each has to be resident.
  let letGo = () => {};
  world.host.files.before = ({ operation, path }) => {
    if (operation !== "write" || !path.includes("/logs/")) return;
    return new Promise<void>((resolve) => {
      letGo = resolve;
    });
  };
  const write = tip.write([filled(2)], 5 * 1024);
  await turns(20);
  world.host.files.before = undefined;
  for (let chunk = 6; chunk < 20; chunk++) await firstByte(world, tip.point.id, chunk * 1024);
  letGo();
  await write;
  assert.equal(await firstByte(world, tip.point.id, 5 * 1024), 2);
});

test("a checkpoint that failed half-way is followed by one that does not", async () => {
  const world = new StoreWorld(1, { segmentBytesMax: 2 ** 26 });
  await world.open();
  await world.addDisk("a");
  const { tip } = diskOf(world);
  // Three map objects' worth of leaves.
  for (let leaf = 0; leaf < 12_000; leaf++) await tip.zero(leaf * 64, 63, "zero");
  world.host.files.fail({
    operation: "write",
    nth: 2,
    code: "no-space",
    on: (path) => path.includes("maps"),
  });
  await assert.rejects(world.store.checkpoint(), { code: "no-space" });
  assert.equal((await world.store.backend.list("maps/")).length, 1, "the first object was put");
  await world.store.checkpoint();
  await world.store.clean();
  await world.check();
});

test("a read that fails at once still waits for the reads it has begun", async () => {
  const world = new StoreWorld(1);
  await world.open();
  await world.addDisk("a");
  const disk = diskOf(world);
  await disk.tip.write([filled(1)], 0);
  await world.snapshot([disk]);
  await disk.tip.write([filled(2)], 1);
  await firstByte(world, disk.tip.point.id, 1);
  await flipLastBit(world);
  // The first block's segment has yet to be opened, which takes a while and then fails.
  world.host.files.fail({ operation: "open" });
  let opened = false;
  world.host.files.before = ({ operation }) => {
    if (operation !== "open") return undefined;
    return turns(5).then(() => {
      opened = true;
    });
  };
  const target = Buffer.alloc(2 * blockBytes);
  const point = world.store.point(disk.tip.point.id);
  await assert.rejects(async () => world.store.read(point, { target, first: 0 }));
  assert.ok(opened, "the read settled while a part of it was under way");
});

function diskOf(world: StoreWorld) {
  const [disk] = world.disks;
  assert.ok(disk !== undefined);
  return disk;
}

async function openVdis(host: ReturnType<typeof createMemoryHost>): Promise<Vdis> {
  const backend = await openDirectoryBackend({ root: "/store" }, host);
  return Vdis.open({ directory: "/store", create: true }, { host, backend });
}

/** Of the newest segment's last block. */
async function flipLastBit(world: StoreWorld): Promise<void> {
  const segment = [...world.store.state.segments.values()].at(-1);
  assert.ok(segment !== undefined);
  const key = segmentKey(segment.log, segment.number);
  const handle = await world.host.files.open(`/store/${key}`, { access: "write" });
  const at = (await handle.size()) - 1;
  const byte = Buffer.alloc(1);
  await handle.read(byte, at);
  await handle.write([Buffer.of((byte[0] as number) ^ 1)], at);
  await handle.close();
}

async function cleanedBodies(world: StoreWorld): Promise<number> {
  const keys = await world.store.backend.list("logs/");
  return keys.filter((key) => key.endsWith(".00000001")).length;
}

async function letTimePass(world: StoreWorld, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 100) {
    await world.host.time.advance(100);
    await turns(20);
  }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate);
}

async function firstByte(world: StoreWorld, point: number, block: number): Promise<number> {
  const target = Buffer.alloc(blockBytes);
  await world.store.read(world.store.point(point), { target, first: block });
  return target[0] as number;
}

function filled(byte: number): Buffer {
  return Buffer.alloc(blockBytes, byte);
}
