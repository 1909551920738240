import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost, type MemoryHost } from "../../sim/memory-host.ts";
import { isKelpieError } from "../../src/base/errors.ts";
import { openDirectoryBackend } from "../../src/store/backend/directory.ts";
import { checkStore } from "../../src/store/check.ts";
import { Vdis, type VdisSettings } from "../../src/vdi/vdis.ts";
import { StoreWorld } from "./store-world.ts";

/** Holes that a review found, each with what it did before it was mended. */

const mebibyte = 2 ** 20;
const blockBytes = 4096;

test("a failed sync of a seal does not void what was synced behind it", async () => {
  const { world, disk } = await worldWithDisk();
  const { tip } = disk;
  await tip.write([filled(1)], 0);
  await tip.flush();
  const isFirstSegment = (path: string) => /logs\/[0-9a-f]+\/0000000000000000$/.test(path);
  const seal = holdNext(world, "write", isFirstSegment);
  await world.snapshot([disk]);
  await tip.write([filled(2)], 1);
  await tip.flush();
  seal.letGo();
  await turns(5);
  await tip.write([filled(3)], 2);
  world.host.files.fail({ operation: "sync", on: isFirstSegment });
  await tip.flush();
  const again = await reopened(world.host.files.crashKeepingEverything());
  assert.deepEqual(await firstBytes(again, tip.point.id, [0, 1, 2]), [1, 2, 3]);
});

test("no checkpoint is made of a moment in which a failed sync is being mended", async () => {
  const { world, disk } = await worldWithDisk();
  const { tip } = disk;
  await tip.write([filled(1)], 0);
  await tip.flush();
  await tip.write([filled(2)], 1);
  world.host.files.fail({ operation: "sync", on: (path) => path.includes("/logs/") });
  const sync = holdNext(world, "sync", (path) => /logs\/.*0000001$/.test(path));
  const flushed = tip.flush();
  await turns(20);
  const checkpoint = world.store.checkpoint();
  checkpoint.catch(() => {});
  await turns(20);
  sync.letGo();
  await flushed;
  await checkpoint.catch((error) => assert.ok(isKelpieError(error, "io")));
  const again = await reopened(world.host.files.crashKeepingNothing());
  assert.deepEqual(await firstBytes(again, tip.point.id, [0, 1]), [1, 2]);
});

test("zeros do not eat the reserve of a full store", async () => {
  const { vdis, host } = await smallStore(64 * mebibyte, { reserveBytes: 8 * mebibyte });
  const volume = await fillUp(vdis, mebibyte, 100);
  // Time stands still, so nothing has been cleaned: it is full, says so, and stays so.
  assert.ok(vdis.store.space.isFull);
  const data = Buffer.alloc(mebibyte);
  await assert.rejects(async () => volume.write([data], 0), { code: "no-space" });
  let refused: unknown;
  for (let step = 0; step < 20_000 && refused === undefined; step++) {
    try {
      await volume.zero((step % 10_000) * 2 * blockBytes, blockBytes, { keepAllocated: true });
    } catch (error) {
      refused = error;
    }
  }
  assert.ok(isKelpieError(refused, "no-space"));
  const { freeBytes } = await host.files.space("/store");
  assert.ok(freeBytes > 7 * mebibyte, `${freeBytes} bytes are left of the reserve`);
  await volume.trim(0, mebibyte);
  await vdis.snapshot(["a"], "s");
  await vdis.delete("a");
});

test("dead space left at a clean stop comes back after the next start", async () => {
  const settings = { reserveBytes: 24 * mebibyte, segmentBytesMax: 4 * mebibyte };
  const { vdis, host } = await smallStore(128 * mebibyte, settings);
  await fillUp(vdis, mebibyte / 4, 10);
  await vdis.close();
  const second = createMemoryHost({ seed: 2, files: host.files.crashKeepingEverything() });
  const again = await openVdis(second, settings);
  const before = again.store.cleaner.totals();
  for (let passed = 0; passed < 10_000; passed += 100) {
    await second.time.advance(100);
    await turns(20);
  }
  const after = again.store.cleaner.totals();
  assert.ok(after.usedBytes < before.usedBytes / 4, `${after.usedBytes} of ${before.usedBytes}`);
  await again.volume("a").write([Buffer.alloc(mebibyte)], 0);
});

test("changed maps do not fill the memory: writers wait for the checkpoint", async () => {
  const limit = 2 * mebibyte;
  const world = new StoreWorld(1, {
    maintenance: { dirtyBytesMax: mebibyte, dirtyBytesLimit: limit },
  });
  await world.open();
  await world.addDisk("a");
  const [disk] = world.disks;
  assert.ok(disk !== undefined);
  const { nodes } = world.store.state;
  let most = 0;
  for (let chunk = 0; chunk < 1500; chunk++) {
    // Each write changes a chunk of its own, which takes 12 KiB of map.
    await disk.tip.write([filled(1)], chunk * 1024);
    most = Math.max(most, nodes.dirtyBytes + nodes.storingBytes);
  }
  assert.ok(most < limit + 64 * 1024, `${most} bytes of changed maps`);
});

test("cleaning makes durable what overwrote the blocks it drops", async () => {
  const world = new StoreWorld(1, { segmentBytesMax: 32 * 1024 });
  await world.open();
  await world.addDisk("a");
  const [disk] = world.disks;
  assert.ok(disk !== undefined);
  for (let block = 0; block < 12; block++) await disk.tip.write([filled(1)], block);
  await disk.tip.flush();
  await world.store.checkpoint();
  // Not flushed: power loss may take it, and then the old blocks are needed.
  for (let block = 0; block < 3; block++) await disk.tip.write([filled(2)], block);
  const segment = world.store.cleaner.next();
  assert.ok(segment !== undefined);
  await world.store.cleaner.clean(segment);
  const again = await reopened(world.host.files.crashKeepingNothing());
  const found = await firstBytes(again, disk.tip.point.id, [0, 1, 2, 3, 11]);
  assert.deepEqual(found, [2, 2, 2, 1, 1]);
});

test("a checkpoint waits for a snapshot whose record is on its way", async () => {
  const { world, disk } = await worldWithDisk();
  const { tip } = disk;
  await tip.write([filled(1)], 0);
  holdNext(world, "link", (path) => path.includes("catalog"));
  world.snapshot([disk]).catch(() => {});
  await turns(20);
  // It belongs to a point that no record names yet.
  await tip.write([filled(2)], 1);
  await tip.flush();
  world.store.checkpoint().catch(() => {});
  await turns(50);
  const again = await reopened(world.host.files.crashKeepingNothing());
  const point = again.registry.tips.a;
  assert.ok(point !== undefined);
  assert.deepEqual(await firstBytes(again, point, [0, 1]), [1, 2]);
});

test("what a deleted snapshot held and was cleaned before a crash is no damage", async () => {
  const { world, disk } = await worldWithDisk();
  const { tip } = disk;
  for (let block = 0; block < 8; block++) await tip.write([filled(1)], block);
  await world.snapshot([disk]);
  for (let block = 0; block < 8; block++) await tip.write([filled(2)], block);
  await world.store.checkpoint();
  const [snapshot] = world.snapshots;
  assert.ok(snapshot !== undefined);
  await world.deleteSnapshot(snapshot);
  await world.host.time.advance(250);
  await turns(100);
  assert.equal(world.store.cleaner.cleaned, 1);
  // The newest checkpoint still has the snapshot and what it held.
  const again = await reopened(world.host.files.crashKeepingEverything());
  const { findings } = await checkStore(again.store, { repair: false });
  assert.deepEqual(findings, []);
});

test("a body that is being opened while its segment is cleaned is read as what it is", async () => {
  const world = new StoreWorld(1, { segmentBytesMax: 32 * 1024 });
  await world.open();
  await world.addDisk("a");
  const [disk] = world.disks;
  assert.ok(disk !== undefined);
  for (let block = 0; block < 12; block++) await disk.tip.write([filled(1)], block);
  for (let block = 0; block < 3; block++) await disk.tip.write([filled(2)], block);
  await world.store.checkpoint();
  const segment = world.store.cleaner.next();
  assert.ok(segment !== undefined);
  const link = holdNext(world, "link", (path) => path.includes("logs"));
  const cleaned = world.store.cleaner.clean(segment);
  await turns(50);
  await world.store.reader.forget(segment);
  const opening = holdNext(world, "open", (path) => path.endsWith("/0000000000000000"));
  const read = firstBytes(world, disk.tip.point.id, [4]);
  await turns(5);
  link.letGo();
  await turns(50);
  assert.equal(segment.generation, 1);
  opening.letGo();
  assert.deepEqual(await read, [1]);
  await cleaned;
});

async function worldWithDisk() {
  const world = new StoreWorld(1);
  await world.open();
  await world.addDisk("a");
  const [disk] = world.disks;
  assert.ok(disk !== undefined);
  return { world, disk };
}

/** Holds the next operation of a kind until it is let go. */
function holdNext(world: StoreWorld, wanted: string, on: (path: string) => boolean) {
  const held = { letGo: () => {} };
  world.host.files.before = ({ operation, path }) => {
    if (operation !== wanted || !on(path)) return undefined;
    world.host.files.before = undefined;
    return new Promise<void>((resolve) => {
      held.letGo = resolve;
    });
  };
  return held;
}

async function reopened(files: MemoryFiles): Promise<StoreWorld> {
  const world = new StoreWorld(2);
  world.host = createMemoryHost({ seed: 5, files });
  await world.open();
  return world;
}

async function smallStore(capacityBytes: number, settings: Partial<VdisSettings>) {
  const host = createMemoryHost({ seed: 1, files: new MemoryFiles({ capacityBytes }) });
  return { host, vdis: await openVdis(host, settings) };
}

async function openVdis(host: MemoryHost, settings: Partial<VdisSettings>): Promise<Vdis> {
  const backend = await openDirectoryBackend({ root: "/store" }, host);
  return Vdis.open({ directory: "/store", create: true, ...settings }, { host, backend });
}

/** Writes over and over the first `pieces` of a new disk until the store is full. */
async function fillUp(vdis: Vdis, pieceBytes: number, pieces: number) {
  await vdis.create("a", 2 ** 30);
  const volume = vdis.volume("a");
  for (let step = 0; step < 2000; step++) {
    try {
      await volume.write([Buffer.alloc(pieceBytes, step)], (step % pieces) * pieceBytes);
    } catch (error) {
      assert.ok(isKelpieError(error, "no-space"));
      return volume;
    }
    if (step % 4 === 0) await vdis.store.space.check();
  }
  throw new Error("the store did not get full");
}

async function firstBytes(world: StoreWorld, point: number, blocks: number[]): Promise<number[]> {
  const found: number[] = [];
  for (const first of blocks) {
    const target = Buffer.alloc(blockBytes);
    await world.store.read(world.store.point(point), { target, first });
    found.push(target[0] as number);
  }
  return found;
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate);
}

function filled(byte: number): Buffer {
  return Buffer.alloc(blockBytes, byte);
}
