import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";

test("what is below a purged point stands on what is above it, and keeps what that holds", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", 2 ** 20);
  const tags = ["one", "two", "three"];
  for (const [block, tag] of tags.entries()) {
    await vdis.volume("a").write(filled(block + 1), block * 4096);
    await vdis.snapshot(["a"], tag);
  }
  await vdis.deleteSnapshot("a", "two");
  await vdis.store.clean();
  assert.equal(vdis.point("a", "three").parent, vdis.point("a", "one"));
  await vdis.deleteSnapshot("a", "one");
  await vdis.store.clean();
  assert.equal(vdis.point("a", "three").parent, undefined);
  const left = await openMemoryVdis({}, files.afterCrash({ kind: "power-loss-keeping-nothing" }));
  for (const { volume } of [vdis, left.vdis].map((all) => ({ volume: all.volume("a") }))) {
    for (const block of tags.keys()) assert.equal(await byteAt(volume, block * 4096), block + 1);
  }
  await vdis.close();
  await left.vdis.close();
});

test("what the disk has overwritten since a snapshot is needed by nobody when that is purged", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", 2 ** 20);
  const { segments } = vdis.store.state;
  const needed = () => [...segments.values()].reduce((sum, { live }) => sum + live, 0);
  for (const block of [0, 1, 2]) await vdis.volume("a").write(filled(1), block * 4096);
  await vdis.snapshot(["a"], "one");
  for (const block of [0, 1]) await vdis.volume("a").write(filled(2), block * 4096);
  assert.equal(needed(), 5);
  await vdis.deleteSnapshot("a", "one");
  // Before anything is cleaned: cleaning counts anew what it looks through.
  assert.equal(await vdis.store.afterPurge(async () => needed()), 3);
  await vdis.close();
});
