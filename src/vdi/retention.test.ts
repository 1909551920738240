import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";

const mebibyte = 2 ** 20;
const minute = 60_000;

test("a discarded tip is kept for its time and then given up, without anybody asking", async () => {
  const { vdis, host } = await openMemoryVdis({ keepDiscarded: { ageMs: 10 * minute, share: 1 } });
  await vdis.create("a", mebibyte);
  await vdis.volume("a").write(filled(1), 0);
  await vdis.delete("a");
  await host.time.advance(6 * minute);
  await vdis.create("b", mebibyte);
  await vdis.volume("b").write(filled(2), 0);
  await vdis.delete("b");
  await host.time.advance(3.9 * minute);
  assert.equal(vdis.registry.discarded.size, 2);
  await host.time.advance(0.2 * minute);
  await vdis.store.clean();
  assert.deepEqual(
    vdis.registry
      .discardedOf("a")
      .concat(vdis.registry.discardedOf("b"))
      .map(({ name }) => name),
    ["b"],
  );
  await assert.rejects(vdis.undelete("a", {}), { code: "not-found" });
  await vdis.undelete("b", {});
  assert.equal(await byteAt(vdis.volume("b"), 0), 2);
  await vdis.close();
});

test("beyond their share the oldest discarded tips go first, and what is empty stays", async () => {
  const { vdis, host } = await openMemoryVdis({
    keepDiscarded: { ageMs: 1000 * minute, share: 3 / 1024 },
  });
  for (const [name, bytes] of [
    ["empty", 0],
    ["first", mebibyte],
    ["second", mebibyte],
    ["third", mebibyte],
    ["fourth", mebibyte],
  ] as const) {
    await vdis.create(name, 4 * mebibyte);
    if (bytes > 0) await vdis.volume(name).write(filled(1, bytes), 0);
    await vdis.delete(name);
    await host.time.advance(10);
  }
  await host.time.advance(2000);
  await vdis.store.clean();
  const left = [...vdis.registry.discarded.values()].map(({ name }) => name);
  assert.deepEqual(left, ["empty", "third", "fourth"].slice(0, 1).concat(left.slice(1)));
  assert.ok(!left.includes("first") && left.includes("fourth") && left.includes("empty"));
  await vdis.close();
});

test("a full store gives discarded tips up at once", async () => {
  const { vdis, host } = await openMemoryVdis({ reserveBytes: 2 ** 40 });
  assert.ok(vdis.store.space.isFull);
  await vdis.create("a", mebibyte);
  // Nothing was written to it: there is nothing to gain.
  await vdis.delete("a");
  await host.time.advance(5000);
  assert.equal(vdis.registry.discarded.size, 1);
  await vdis.close();
});

test("what was asked to be purged is gone, of one name or of all", async () => {
  const { vdis } = await openMemoryVdis();
  for (const name of ["a", "b"]) {
    await vdis.create(name, mebibyte);
    await vdis.delete(name);
  }
  assert.equal(await vdis.purge("a"), 1);
  assert.equal(await vdis.purge("a"), 0);
  assert.equal(await vdis.purge(), 1);
  assert.equal(vdis.registry.discarded.size, 0);
  await vdis.close();
});
