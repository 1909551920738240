import assert from "node:assert/strict";
import { test } from "node:test";
import { filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";
import type { BlockExtent } from "./extents.ts";
import { chunkBlocks, pageChunks } from "./formats/map-node.ts";

const pageBlocks = pageChunks * chunkBlocks;

/** Where the value of an extent is 1: first block and length. */
function changesIn(extents: readonly BlockExtent[], first: number): [number, number][] {
  const changes: [number, number][] = [];
  let at = first;
  for (const { blocks, value } of extents) {
    if (value === 1) changes.push([at, blocks]);
    at += blocks;
  }
  return changes;
}

test("changes are found from wherever one looks, over pages of the map that have none", async () => {
  const { vdis } = await openMemoryVdis();
  const blocks = 3 * pageBlocks;
  await vdis.create("a", blocks * 4096);
  const volume = vdis.volume("a");
  const write = (block: number) => volume.write(filled(1), block * 4096);
  await write(5 * chunkBlocks);
  await write(pageBlocks + 3 * chunkBlocks);
  await vdis.snapshot(["a"], "one");
  const changed = [
    pageBlocks + 7 * chunkBlocks,
    pageBlocks + 700 * chunkBlocks,
    2 * pageBlocks + 1,
  ];
  for (const block of changed) await write(block);
  const [from, to] = [vdis.point("a", "one"), vdis.point("a")];
  const starts = [0, 1, 3, 6, 8, 500, pageChunks - 1, pageChunks, pageChunks + 8, 2 * pageChunks];
  for (const first of starts.map((chunk) => chunk * chunkBlocks)) {
    const range = { first, count: blocks - first, extentsMax: 100 };
    const found = changesIn(await vdis.store.changed(from, to, range), first);
    const expected = changed.filter((block) => block >= first).map((block) => [block, 1]);
    assert.deepEqual(found, expected, `from block ${first}`);
  }
  await vdis.close();
});

test("what is allocated is told to the last block of each chunk of the map", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", 3 * chunkBlocks * 4096);
  const volume = vdis.volume("a");
  await volume.write(filled(1, (chunkBlocks + 1) * 4096), 0);
  await volume.zero(2 * chunkBlocks * 4096, chunkBlocks * 4096, { keepAllocated: true });
  const range = { first: 0, count: 3 * chunkBlocks, extentsMax: 100 };
  assert.deepEqual(await vdis.store.allocation(vdis.point("a"), range), [
    { blocks: chunkBlocks + 1, value: 0 },
    { blocks: chunkBlocks - 1, value: 1 },
    { blocks: chunkBlocks, value: 2 },
  ]);
  await vdis.close();
});
