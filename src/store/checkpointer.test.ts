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
