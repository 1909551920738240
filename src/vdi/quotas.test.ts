import assert from "node:assert/strict";
import { test } from "node:test";
import { filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";
import type { Log } from "../host/log.ts";
import { Quotas } from "./quotas.ts";
import type { Vdis } from "./vdis.ts";

const mebibyte = 2 ** 20;

function setQuota(vdis: Vdis, pattern: string, limitBytes: number | null): Promise<void> {
  return vdis.note([{ type: "quota", pattern, limitBytes }]);
}

/** Writes blocks one after the other until one is refused; says how many were not. */
async function fill(vdis: Vdis, name: string, from = 0): Promise<number> {
  const volume = vdis.volume(name);
  for (let block = from; block < 1024; block++) {
    try {
      await volume.write(filled(1), block * 4096);
    } catch (error) {
      assert.match(String(error), /quota of 400 KiB for "web-\*" is used up/);
      assert.equal((error as { code: string }).code, "no-space");
      return block - from;
    }
  }
  return 1024 - from;
}

test("disks of a name share a quota, snapshots count, and room that is made is room", async () => {
  const { vdis, host } = await openMemoryVdis();
  for (const name of ["web-1", "web-2", "db"]) await vdis.create(name, 4 * mebibyte);
  await setQuota(vdis, "web-*", 100 * 4096);
  assert.equal(await fill(vdis, "web-1"), 100);
  assert.equal(await fill(vdis, "web-2"), 0);
  await vdis.volume("db").write(filled(1, mebibyte), 0);
  // A discard makes room, and is not refused itself.
  await vdis.volume("web-1").trim(0, 40 * 4096);
  await host.time.advance(20);
  assert.equal(await fill(vdis, "web-2"), 40);
  // What a snapshot keeps from being freed counts.
  await vdis.snapshot(["web-1"], "one");
  await vdis.volume("web-1").trim(0, 4 * mebibyte);
  await host.time.advance(20);
  assert.equal(await fill(vdis, "web-2", 40), 0);
  await vdis.deleteSnapshot("web-1", "one");
  await host.time.advance(20);
  assert.equal(await fill(vdis, "web-2", 40), 60);
  await vdis.close();
});

test("a disk may be overwritten as often as one likes, if there is room for one write", async () => {
  const { vdis, host } = await openMemoryVdis();
  await vdis.create("web-1", 4 * mebibyte);
  await setQuota(vdis, "web-*", 100 * 4096);
  for (let n = 0; n < 500; n++) {
    await vdis.volume("web-1").write(filled(2, 8 * 4096), 0);
    await host.time.advance(20);
  }
  assert.deepEqual(vdis.volumes.quotas.list(), [
    { pattern: "web-*", limitBytes: 100 * 4096, usedBytes: 8 * 4096, disks: 1 },
  ]);
  await vdis.close();
});

test("quotas are kept, changed, and lifted", async () => {
  const { vdis, files } = await openMemoryVdis();
  await setQuota(vdis, "a", 1);
  await setQuota(vdis, "web-*", 5);
  await setQuota(vdis, "a", null);
  await vdis.store.checkpoint();
  await setQuota(vdis, "web-*", 7);
  const { vdis: again } = await openMemoryVdis({}, files.crashKeepingNothing());
  assert.deepEqual([...again.registry.quotas], [["web-*", 7]]);
  await again.close();
});

test("there is one warning at nine tenths, and one more when it was below and is there again", async () => {
  const { vdis, host } = await openMemoryVdis();
  await vdis.create("web-1", 4 * mebibyte);
  await setQuota(vdis, "web-*", 100 * 4096);
  const warnings: unknown[] = [];
  const warn: Log["warn"] = (event, fields) => warnings.push([event, fields?.pattern]);
  const { registry, store } = vdis;
  const log = { ...host.log, warn };
  const quotas = new Quotas({ registry, store, clock: host.clock, log });
  const volume = vdis.volume("web-1");
  const write = async (first: number, count: number) => {
    await volume.write(filled(1, count * 4096), first * 4096);
    await host.time.advance(1000);
    quotas.admit("web-1", 0);
  };
  await write(0, 80);
  assert.deepEqual(warnings, []);
  await write(80, 11);
  await write(91, 1);
  assert.deepEqual(warnings, [["quota nearly used", "web-*"]]);
  await volume.trim(0, 4 * mebibyte);
  await write(0, 10);
  await write(10, 85);
  assert.equal(warnings.length, 2);
  await vdis.close();
});
