import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";

const mebibyte = 2 ** 20;
const tebibyte = 2 ** 40;

test("a snapshot of a disk with nothing unsynced is one record and writes no data", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", 64 * mebibyte);
  const volume = vdis.volume("a");
  await volume.write(filled(1, 16 * mebibyte), 0);
  await volume.flush();
  const records = vdis.store.catalog.last;
  let bytes = 0;
  const { appendedBytes } = volume.tip.log ?? { appendedBytes: -1 };
  files.before = ({ operation, path }) => {
    if (operation === "write" && path.includes("/logs/")) bytes++;
  };
  await vdis.snapshot(["a"], "one");
  assert.equal(vdis.store.catalog.last, records + 1);
  assert.equal(volume.tip.log?.appendedBytes, appendedBytes, "nothing is appended to the log");
  assert.ok(bytes <= 1, "a segment may be sealed");
  await vdis.clone("a", "one", "b");
  await vdis.rollback(["a"], "one", false);
  assert.equal(vdis.store.catalog.last, records + 3);
  assert.equal(volume.tip.log?.appendedBytes, appendedBytes);
  await vdis.close();
});

test("the first write after a snapshot copies the map of its chunk and of no other", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", 64 * mebibyte);
  const volume = vdis.volume("a");
  await volume.write(filled(1, 16 * mebibyte), 0);
  await vdis.snapshot(["a"], "one");
  const chunk = (point: typeof volume.tip.point, index: number) => point.map.lookup(index);
  const frozen = vdis.point("a", "one");
  assert.equal(volume.tip.point.map.root, frozen.map.root, "all of the map is shared");
  await volume.write(filled(2), 5 * mebibyte);
  for (const index of [0, 2, 3]) {
    assert.equal(chunk(volume.tip.point, index), chunk(frozen, index), `chunk ${index} is shared`);
  }
  assert.notEqual(chunk(volume.tip.point, 1), chunk(frozen, 1));
  await vdis.close();
});

test("a trim of what is a hole writes nothing, not even of 16 TiB", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", 16 * tebibyte);
  const volume = vdis.volume("a");
  const records = vdis.store.catalog.last;
  await volume.trim(0, 16 * tebibyte);
  assert.ok(volume.tip.log === undefined, "it has no log yet");
  assert.equal(vdis.store.catalog.last, records);
  await volume.write(filled(1), 0);
  const appended = () => vdis.volume("a").tip.log?.appendedBytes ?? 0;
  const appendedBytes = appended();
  await volume.trim(4 * 2 ** 30, 16 * tebibyte - 4 * 2 ** 30);
  assert.equal(appended(), appendedBytes);
  // Of a mapped one: an entry for each page of 4 GiB that has anything.
  for (const at of [3 * tebibyte, 9 * tebibyte]) await volume.write(filled(1), at);
  const before = appended();
  await volume.trim(0, 16 * tebibyte);
  const after = appended();
  assert.ok(after - before <= 3 * 512, `${after - before} bytes`);
  assert.equal(vdis.point("a").mappedBlocks, 0);
  await vdis.close();
});

test("zeros that stay allocated over terabytes are small in memory and on the disk", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", 2 * tebibyte);
  const volume = vdis.volume("a");
  await volume.write(filled(7), 1.5 * tebibyte);
  await volume.zero(0, 2 * tebibyte, { keepAllocated: true });
  assert.equal(vdis.point("a").mappedBlocks, (2 * tebibyte) / 4096);
  assert.equal(await byteAt(volume, 1.5 * tebibyte), 0);
  assert.ok((volume.tip.log?.appendedBytes ?? 0) < 4 * mebibyte);
  const query = { kind: "allocation", offset: 0, length: tebibyte, extentsMax: 4 } as const;
  assert.deepEqual(await volume.extents(query), [{ lengthBytes: tebibyte, value: 2 }]);
  await vdis.close();
  const left = await openMemoryVdis({}, files.crashKeepingNothing());
  const again = left.vdis.volume("a");
  await again.write(filled(3), 1.75 * tebibyte);
  assert.equal(await byteAt(again, 1.75 * tebibyte + 4096), 0);
  assert.equal(left.vdis.point("a").mappedBlocks, (2 * tebibyte) / 4096);
  await left.vdis.close();
});
