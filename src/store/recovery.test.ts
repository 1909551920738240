import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";

const mebibyte = 2 ** 20;

test("a store with a gap in its catalog is refused, whichever record it is that is missing", async () => {
  const { vdis, files } = await openMemoryVdis();
  for (const name of ["a", "b", "c"]) await vdis.create(name, mebibyte);
  const records = await files.list("/store/catalog");
  // That there was one more, nothing tells.
  const missing = records.slice(0, -1);
  assert.ok(missing.length >= 2);
  for (const name of missing) {
    const left = files.afterCrash({ kind: "power-loss-keeping-nothing" });
    await left.remove(`/store/catalog/${name}`);
    const opened = openMemoryVdis({}, left);
    await assert.rejects(opened, { code: "corrupt", message: new RegExp(`${name} is missing`) });
  }
});

test("what an unfinished checkpoint wrote is removed, and its numbers are not used again", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  await vdis.volume("a").write(filled(1), 0);
  files.fail({ operation: "link", on: (path) => path.includes("checkpoints/"), code: "no-space" });
  await assert.rejects(vdis.store.checkpoint(), { code: "no-space" });
  const [tried = "none"] = await files.list("/store/maps");
  const left = await openMemoryVdis({}, files.crashKeepingEverything());
  assert.deepEqual(await left.files.list("/store/maps"), []);
  await left.vdis.store.checkpoint();
  const [used = "none"] = await left.files.list("/store/maps");
  assert.ok(used > tried, `${used} after ${tried}`);
  await left.vdis.close();
});

test("of two logs of a disk the one that was begun later was written later", async () => {
  const { vdis, files } = await openMemoryVdis({ segmentBytesMax: 2 ** 16 });
  await vdis.create("a", mebibyte);
  // The last of them is in the third segment of its log.
  for (let block = 0; block < 40; block++) await vdis.volume("a").write(filled(1), block * 4096);
  const again = await openMemoryVdis({}, files.crashKeepingEverything());
  // And this in the first of another.
  await again.vdis.volume("a").write(filled(2), 39 * 4096);
  const { vdis: left } = await openMemoryVdis({}, again.files.crashKeepingEverything());
  assert.equal(await byteAt(left.volume("a"), 39 * 4096), 2);
  assert.equal(await byteAt(left.volume("a"), 38 * 4096), 1);
  await left.close();
});
