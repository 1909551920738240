import assert from "node:assert/strict";
import { test } from "node:test";
import {
  chunkLeaves,
  encodeBranch,
  nodeType,
  pageChunks,
  referenceOf,
} from "../formats/map-node.ts";
import { MapNodes } from "./map-nodes.ts";
import { Chunk, pageBytes, Root, sameNode } from "./nodes.ts";
import { PointMap } from "./point-map.ts";

/** Chunks of one page, all stored and all without a leaf; each of `roots` has a page of its own with them. */
function storedMaps(roots: number, limitBytes: number) {
  const chunkReferences = Array.from({ length: pageChunks }, (_, slot) =>
    referenceOf(2000, 24 + slot * 8),
  );
  const stored = new Map<number, Buffer>();
  chunkReferences.forEach((reference, index) => {
    const name = { type: nodeType.chunk, index };
    stored.set(reference, encodeBranch(name, new Float64Array(chunkLeaves)));
  });
  const references = Array.from({ length: roots }, (_, at) => {
    const [page, root] = [referenceOf(3000 + at, 8), referenceOf(3000 + at, 16)];
    stored.set(page, encodeBranch({ type: nodeType.page, index: 0 }, chunkReferences));
    stored.set(root, encodeBranch({ type: nodeType.root, index: 0 }, [page]));
    return root;
  });
  const reader = {
    read: async (wanted: readonly number[]) =>
      wanted.map((reference) => stored.get(reference) ?? assert.fail("not stored")),
  };
  const nodes = new MapNodes({ limitBytes }, { reader });
  const maps = references.map(
    (reference) => new PointMap(nodes, new Root(0, reference, undefined)),
  );
  return { maps, nodes, chunkReferences };
}

/** Of the page that has block 0. */
function chunksOf(map: PointMap) {
  return map.root.pages?.[0]?.chunks;
}

test("a page that is loaded has a node for the chunk that was wanted, and for no other", async () => {
  const { maps, chunkReferences } = storedMaps(1, 2 ** 30);
  const [map] = maps;
  assert.ok(map);
  const wanted = await map.load(7);
  const chunks = chunksOf(map);
  assert.ok(wanted instanceof Chunk);
  assert.equal(map.lookup(7), wanted);
  assert.equal(map.lookup(8), "absent");
  assert.equal(chunks?.filter((chunk) => chunk instanceof Chunk).length, 1);
  assert.equal(chunks?.[8], chunkReferences[8]);
});

test("a chunk is the same in two pages whether it is in memory in both, one or none", async () => {
  const { maps } = storedMaps(2, 2 ** 30);
  const [left, right] = maps;
  assert.ok(left && right);
  await left.load(0);
  await right.load(1);
  const [ours, theirs] = [chunksOf(left), chunksOf(right)];
  for (const slot of [0, 1, 2]) {
    assert.ok(sameNode(ours?.[slot], theirs?.[slot]), `slot ${slot}`);
    assert.ok(!sameNode(ours?.[slot], theirs?.[slot + 1]), `slot ${slot} and the next`);
  }
});

test("a copied page still knows stored chunks that nobody asked for", async () => {
  const { maps, chunkReferences } = storedMaps(1, 2 ** 30);
  const [map] = maps;
  assert.ok(map);
  await map.load(7);
  map.share();
  map.writable(7);
  assert.equal(chunksOf(map)?.[8], chunkReferences[8]);
  const chunk = await map.load(8);
  assert.equal(chunk?.reference, chunkReferences[8]);
});

test("pages of many maps are dropped beyond the limit, and found again", async () => {
  const { maps, nodes } = storedMaps(200, 20 * pageBytes);
  for (const map of maps) await map.load(3);
  assert.ok(nodes.residentBytes <= 20 * pageBytes);
  const inMemory = maps.filter((map) => chunksOf(map) !== undefined).length;
  assert.ok(inMemory > 0 && inMemory <= 20, `${inMemory} pages`);
  for (const map of maps) assert.ok((await map.load(4)) instanceof Chunk);
});
