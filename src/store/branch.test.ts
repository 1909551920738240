import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";

const mebibyte = 2 ** 20;

test("a snapshot that the store has no room for leaves the disk as it was", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  const volume = vdis.volume("a");
  await volume.write(filled(1), 0);
  const point = vdis.point("a");
  files.fail({ operation: "write", code: "no-space", on: (path) => !path.includes("/logs/") });
  files.fail({ operation: "open", code: "no-space", on: (path) => path.includes("tmp") });
  await assert.rejects(vdis.snapshot(["a"], "one"), { code: "no-space" });
  files.clearFaults();
  assert.equal(vdis.point("a"), point);
  assert.equal(volume.tip.point, point);
  assert.equal(point.children.size, 0);
  assert.equal(point.exclusiveBlocks, 1);
  await volume.write(filled(2), 0);
  await vdis.snapshot(["a"], "one");
  assert.equal(await byteAt(volume, 0), 2);
  await vdis.close();
});

test("what is written behind the cut of a failed snapshot is there after opening", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  const volume = vdis.volume("a");
  await volume.write(filled(1), 0);
  let writing: Promise<void> | undefined;
  files.before = ({ operation, path }) => {
    if (operation !== "link" || !path.startsWith("/store/catalog/")) return undefined;
    writing ??= Promise.resolve(volume.write(filled(2), 4096));
    return writing;
  };
  files.fail({ operation: "link", code: "no-space", on: (path) => path.includes("/catalog/") });
  await assert.rejects(vdis.snapshot(["a"], "one"), { code: "no-space" });
  files.before = undefined;
  assert.ok(writing !== undefined, "it was written while the record was");
  await vdis.store.checkpoint();
  const { vdis: left } = await openMemoryVdis({}, files.crashKeepingNothing());
  assert.equal(await byteAt(left.volume("a"), 0, 4096), 1);
  assert.equal(await byteAt(left.volume("a"), 4096, 4096), 2);
  await left.close();
});
