import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";

const gibibyte = 2 ** 30;
/** A block in each: a page of a map holds 4 GiB. */
const pages = 1100;

test("a checkpoint that could not be published leaves the maps it wrote alone", async () => {
  const maintenance = { dirtyBytesMax: 2 ** 40, appendedBytesMax: 2 ** 40, recordsMax: 2 ** 30 };
  const { vdis, host, files } = await openMemoryVdis({ mapBytesMax: 2 ** 20, maintenance });
  await vdis.create("a", 8192 * gibibyte);
  const volume = vdis.volume("a");
  const writeAll = async (byte: number) => {
    // One at a time, for the maps of one batch must fit into memory.
    for (let at = 0; at < pages; at++) await volume.write(filled(byte), at * 4 * gibibyte);
  };
  await writeAll(1);
  await vdis.store.checkpoint();
  await writeAll(2);
  // Its map objects are put; the object that names them is not.
  files.fail({ operation: "link", on: (path) => path.includes("checkpoints/"), code: "no-space" });
  await assert.rejects(vdis.store.checkpoint());
  files.clearFaults();
  // The background looks whether old maps can go: there are more than 16 MiB of them.
  assert.ok(vdis.store.state.mapObjects.totalBytes > 16 * 2 ** 20);
  for (let tick = 0; tick < 10; tick++) {
    await host.time.advance(1000);
    await vdis.store.exclusively(async () => {});
  }
  for (let at = 0; at < pages; at += 7) {
    assert.equal(await byteAt(volume, at * 4 * gibibyte), 2);
  }
  await vdis.store.checkpoint();
  const left = await openMemoryVdis({}, files.crashKeepingNothing());
  for (let at = 0; at < pages; at += 97) {
    assert.equal(await byteAt(left.vdis.volume("a"), at * 4 * gibibyte), 2);
  }
  await left.vdis.close();
});

test("no checkpoint is made of places that a failed sync has moved meanwhile", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", gibibyte);
  await vdis.volume("a").write(filled(1), 0);
  files.fail({ operation: "sync", on: (path) => path.startsWith("/store/logs/") });
  await assert.rejects(vdis.store.checkpoint(), { code: "io", message: /a sync failed under/ });
  await vdis.store.checkpoint();
  const left = await openMemoryVdis({}, files.crashKeepingNothing());
  assert.equal(await byteAt(left.vdis.volume("a"), 0), 1);
  await left.vdis.close();
});

test("a record that comes while a checkpoint is written is still there after it", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("before", gibibyte);
  const gate = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  files.before = ({ operation, path }) => {
    if (operation !== "link" || !path.includes("checkpoints/")) return undefined;
    arrived.resolve();
    return gate.promise;
  };
  const writing = vdis.store.checkpoint();
  await arrived.promise;
  files.before = undefined;
  await vdis.create("meanwhile", gibibyte);
  gate.resolve();
  await writing;
  const left = await openMemoryVdis({}, files.crashKeepingNothing());
  assert.deepEqual([...left.vdis.registry.working.keys()].sort(), ["before", "meanwhile"]);
  await left.vdis.close();
});

test("what only a checkpoint that failed would have covered is not cleaned", async () => {
  const never = { dirtyBytesMax: 2 ** 40, appendedBytesMax: 2 ** 40, recordsMax: 2 ** 30 };
  const maintenance = { ...never, slackBytes: 0, usedFactor: 1, usedFactorBusy: 1 };
  const { vdis, host, files } = await openMemoryVdis({ maintenance });
  await vdis.create("a", gibibyte);
  const volume = vdis.volume("a");
  const blocks = 1024; // four segments
  for (let block = 0; block < blocks; block++) await volume.write(filled(1), block * 4096);
  for (let block = 0; block < blocks; block += 2) await volume.write(filled(2), block * 4096);
  files.fail({ operation: "link", on: (path) => path.includes("checkpoints/"), code: "no-space" });
  await assert.rejects(vdis.store.checkpoint());
  files.clearFaults();
  for (let tick = 0; tick < 20; tick++) {
    await host.time.advance(1000);
    await vdis.store.exclusively(async () => {});
  }
  await volume.flush();
  const left = await openMemoryVdis({}, files.crashKeepingNothing());
  for (let block = 0; block < blocks; block++) {
    const expected = block % 2 === 0 ? 2 : 1;
    assert.equal(await byteAt(left.vdis.volume("a"), block * 4096), expected);
  }
  await left.vdis.close();
});

test("segments that are written while a checkpoint is written are not cleaned after it", async () => {
  const { vdis, files } = await openMemoryVdis({ segmentBytesMax: 32 * 1024 });
  await vdis.create("a", 2 ** 20);
  const volume = vdis.volume("a");
  await volume.write(filled(1), 0);
  let writing: Promise<void> | undefined;
  files.before = ({ operation, path }) => {
    if (operation !== "link" || !path.startsWith("/store/checkpoints/")) return undefined;
    writing ??= (async () => {
      for (let write = 0; write < 30; write++) {
        await volume.write(filled(2 + write), (write % 5) * 4096);
      }
    })();
    return writing;
  };
  await vdis.store.checkpoint();
  files.before = undefined;
  assert.ok(writing !== undefined);
  const { cleaner } = vdis.store;
  for (let next = cleaner.next(); next !== undefined; next = cleaner.next()) {
    await cleaner.clean(next);
  }
  const { vdis: left } = await openMemoryVdis({}, files.crashKeepingEverything());
  for (let block = 0; block < 5; block++) {
    assert.equal(await byteAt(left.volume("a"), block * 4096, 4096), 27 + block);
  }
  await left.close();
});
