import assert from "node:assert/strict";
import { test } from "node:test";
import { readSeal } from "../../src/store/log/segment-scan.ts";
import type { Vdis } from "../../src/vdi/vdis.ts";
import { holdNext } from "../support/hold-next.ts";
import { filled, openMemoryVdis } from "../support/memory-vdis.ts";
import { contentOf, directory, LogWorld, log } from "./log-world.ts";

/**
 * What simulated worlds have found in logs, each as the shortest history that shows it, with the seed of
 * the world that did.
 */

test("the death of the process while a failed sync is mended loses nothing (seed 16)", async () => {
  const world = new LogWorld();
  for (let block = 0; block < 6; block++) await world.write(block, 1);
  world.files.fail({ operation: "sync" });
  // What has been written again by then is less than what was answered.
  const isAgain = (path: string): boolean => path.endsWith("1");
  world.files.fail({ operation: "write", on: isAgain, writtenBytes: 5000 });
  await assert.rejects(async () => world.writer.flush(), { code: "io" });
  const left = await contentOf(world.files.crashKeepingEverything());
  assert.deepEqual([...left.keys()].sort(), [0, 1, 2, 3, 4, 5]);
});

test("a cut waits until a failed sync is mended", async () => {
  const store = await openMemoryVdis();
  const { vdis, files } = store;
  await vdis.create("disk", 2 ** 20);
  await vdis.volume("disk").write(filled(1), 0);
  const mending = holdNext(files, "write", (path) => path.startsWith("/store/logs/"));
  files.fail({ operation: "sync", on: (path) => path.startsWith("/store/logs/") });
  const flushed = vdis.volume("disk").flush();
  await mending.reached;
  const taken = vdis.snapshot(["disk"], "tag");
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  mending.letGo();
  await flushed;
  await taken;
  // What is written now stands behind the cut.
  await vdis.volume("disk").write(filled(2), 4096);
  await vdis.volume("disk").flush();
  const again = await openMemoryVdis({}, files.crashKeepingNothing());
  assert.equal(await firstByte(again.vdis), 1);
});

test("a segment that a mending gave up is not known any more (seed 23)", async () => {
  const world = new LogWorld();
  await world.write(0, 1);
  world.files.fail({ operation: "sync", times: 2 });
  await world.writer.flush();
  assert.equal(world.writer.repairs, 1);
  assert.deepEqual(
    [...world.segments.values()].map(({ number }) => number),
    [0, 2],
  );
  assert.deepEqual([...(await contentOf(world.files.crashKeepingNothing())).keys()], [0]);
});

test("a log's directory that could not be made durable is made so before it counts (seed 400)", async () => {
  const world = new LogWorld();
  world.files.fail({ operation: "syncDirectory", on: (path) => path === "/store/logs" });
  await assert.rejects(world.write(0, 1), { code: "io" });
  await world.write(1, 2);
  await world.writer.flush();
  assert.deepEqual([...(await contentOf(world.files.crashKeepingNothing())).keys()], [1]);
});

test("a seal is none if another segment's summary stands in its place (seed 3748)", async () => {
  const world = new LogWorld();
  await world.write(5, 1);
  await world.writer.close();
  const path = `${directory}/0000000000000000`;
  const bytes = Buffer.from(await world.files.readFile(path));
  const other = new LogWorld();
  await other.write(9, 1);
  await other.writer.close();
  const otherBytes = await other.files.readFile(path);
  // Both are sound, and of the same shape.
  bytes.set(otherBytes.subarray(-1024, -512), bytes.length - 1024);
  const handle = await world.files.open(path, { access: "write" });
  assert.ok((await readSeal(handle, { log, segment: 0 })) !== undefined);
  await handle.write([bytes], 0);
  assert.equal(await readSeal(handle, { log, segment: 0 }), undefined);
  await handle.close();
});

test("what a dead process could not sync is durable when the store is open again (seed 3322)", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("disk", 2 ** 20);
  const volume = vdis.volume("disk");
  await volume.write(filled(1), 0);
  await volume.flush();
  await volume.write(filled(2), 0);
  const isLog = (path: string): boolean => path.startsWith("/store/logs/");
  files.fail({ operation: "sync", on: isLog });
  const mending = holdNext(files, "open", isLog);
  volume.flush()?.catch(() => {}); // nobody hears of it
  await mending.reached;
  const again = await openMemoryVdis({}, files.crashKeepingEverything());
  assert.equal(await firstByte(again.vdis), 2);
  await again.vdis.volume("disk").flush();
  const last = await openMemoryVdis({}, again.files.crashKeepingNothing());
  assert.equal(await firstByte(last.vdis), 2);
});

test("a synced segment whose file does not close well is as good as any (seed 3748)", async () => {
  const world = new LogWorld({ segmentBytesMax: 16 * 1024 });
  world.files.fail({ operation: "close" });
  for (let block = 0; block < 8; block++) await world.write(block, 1);
  await world.writer.flush();
  assert.equal((await contentOf(world.files.crashKeepingNothing())).size, 8);
});

async function firstByte(vdis: Vdis): Promise<number> {
  const target = Buffer.alloc(4096);
  await vdis.volume("disk").read(target, 0);
  return target[0] as number;
}

test("an empty segment that power loss takes is no damage (seed 501144)", async () => {
  const world = new LogWorld({ segmentBytesMax: 16 * 1024 });
  for (let block = 0; block < 3; block++) await world.write(block, 1);
  const opened = holdNext(world.files, "write", (path) => path.endsWith("1"));
  const next = world.write(3, 2);
  await opened.reached;
  // Segment 1 is there, and nothing is in it yet.
  await world.writer.flush();
  opened.letGo();
  await next;
  for (let block = 4; block < 8; block++) await world.write(block, 3);
  // Of segment 1 nothing is kept, of segment 2 all.
  const left = world.files.crashKeepingEverything();
  const handle = await left.open(`${directory}/0000000000000001`, { access: "write" });
  await handle.truncate(0);
  await handle.close();
  assert.deepEqual([...(await contentOf(left)).keys()].sort(), [0, 1, 2]);
});
