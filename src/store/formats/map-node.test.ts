import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { checkDamage } from "../../../test/support/damaged-bytes.ts";
import {
  chunkBlocks,
  chunkLeaves,
  decodeBranch,
  decodeLeaf,
  encodeBranch,
  encodeLeaf,
  leafBlocks,
  leafBytesMax,
  mapObjectBytesMax,
  type NodeName,
  nodeBytes,
  nodeType,
  objectOfReference,
  offsetOfReference,
  referenceOf,
} from "./map-node.ts";
import { mapObjectHeader } from "./map-object.ts";

const chunkName: NodeName = { type: nodeType.chunk, index: 5 };
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const reference = fc
  .tuple(fc.nat(2 ** 30), fc.nat(mapObjectBytesMax / 8 - 1))
  .map(([object, place]) => referenceOf(object, place * 8));

function goldenWords(): Uint32Array {
  const words = new Uint32Array(3 * chunkBlocks);
  words[64 + 3] = 7;
  words[chunkBlocks + 67] = 99;
  words[2 * chunkBlocks + 67] = 0xcafe0001;
  words[64 + 63] = 1;
  return words;
}

test("nodes and the head of a map object have the bytes that the tables say", () => {
  const branch = encodeBranch(chunkName, [0, 2 ** 21 + 1, 1, 0]);
  const goldenBranch =
    "4b4e 02 01 20000000 0500000000000000 f89cbffa 00000000" +
    "0000000000000000 0100200000000000 0100000000000000 0000000000000000";
  assert.equal(branch.toString("hex"), goldenBranch.replaceAll(" ", ""));
  const leaf = encodeLeaf(goldenWords(), 1, 81);
  const goldenLeaf =
    "4b4e 01 01 20000000 5100000000000000 679c56d3 00000000 0800000000000080" +
    "07000000 63000000 0100feca 01000000 00000000 00000000";
  assert.equal(leaf.toString("hex"), goldenLeaf.replaceAll(" ", ""));
  assert.equal(mapObjectHeader().toString("hex"), "4b4c504d01000000");
});

test("a reference names an object and a place in it", () => {
  fc.assert(
    fc.property(fc.nat(2 ** 31 - 1), fc.nat(mapObjectBytesMax / 8 - 1), (object, place) => {
      const named = referenceOf(object, place * 8);
      assert.ok(Number.isSafeInteger(named));
      assert.equal(objectOfReference(named), object);
      assert.equal(offsetOfReference(named), place * 8);
    }),
  );
});

test("a branch gives back its references, and is found by its name alone", () => {
  const type = fc.constantFrom(nodeType.chunk, nodeType.page, nodeType.root);
  const name = fc.record({ type, index: fc.nat(2 ** 40) });
  fc.assert(
    fc.property(name, fc.array(reference, { maxLength: 64 }), (named, references) => {
      const node = encodeBranch(named, references);
      assert.equal(nodeBytes(node), node.length);
      assert.deepEqual([...decodeBranch(node, named)], references);
      const { type: own, index } = named;
      for (const other of [
        { type: own, index: index + 1 },
        { type: nodeType.leaf, index },
      ]) {
        assert.throws(() => decodeBranch(node, other), { code: "corrupt" });
      }
    }),
  );
});

test("a leaf gives back its locations, and leaves the rest of the chunk as it is", () => {
  const location = fc.tuple(fc.nat(leafBlocks - 1), fc.integer({ min: 1, max: 2 ** 31 }), u32, u32);
  const leafNumber = fc.nat(chunkLeaves - 1);
  fc.assert(
    fc.property(leafNumber, fc.array(location, { maxLength: 70 }), (leaf, locations) => {
      const words = new Uint32Array(3 * chunkBlocks);
      for (const [slot, id, position, crc] of locations) {
        const at = leaf * leafBlocks + slot;
        words[at] = id;
        words[chunkBlocks + at] = position;
        words[2 * chunkBlocks + at] = crc;
      }
      const node = encodeLeaf(words, leaf, 1000 + leaf);
      assert.ok(node.length <= leafBytesMax && node.length % 8 === 0);
      const target = { words: new Uint32Array(3 * chunkBlocks), leaf, index: 1000 + leaf };
      decodeLeaf(node, target);
      assert.deepEqual(target.words, words);
    }),
  );
});

function leafWords(node: Buffer): Uint32Array {
  const target = { words: new Uint32Array(3 * chunkBlocks), leaf: 1, index: 81 };
  decodeLeaf(node, target);
  return target.words;
}

test("a damaged or truncated node is refused", () => {
  checkDamage(encodeBranch(chunkName, [0, 2 ** 21 + 1, 1, 0]), (bytes) =>
    decodeBranch(bytes, chunkName),
  );
  checkDamage(encodeLeaf(goldenWords(), 1, 81), leafWords);
});

/** The node with a change, and its checksum right again. */
function forged(node: Buffer, change: (node: Buffer) => void): Buffer {
  change(node);
  const end = 24 + node.readUInt32LE(4);
  node.writeUInt32LE(crc32(node.subarray(24, end), crc32(node.subarray(0, 16))), 16);
  return node;
}

test("a whole node of another version is unsupported", () => {
  const newer = forged(encodeBranch(chunkName, [1, 2]), (node) => node.writeUInt8(2, 3));
  assert.throws(() => decodeBranch(newer, chunkName), { code: "unsupported" });
});

test("a whole leaf with more blocks in its set than locations is refused", () => {
  const leaf = forged(encodeLeaf(goldenWords(), 1, 81), (node) => node.writeUInt8(0xff, 24));
  assert.throws(() => leafWords(leaf), { code: "corrupt" });
});

test("a whole branch with a reference that would be rounded, or with a part of one, is refused", () => {
  const rounded = forged(encodeBranch(chunkName, [1, 2]), (node) =>
    node.writeUInt32LE(2 ** 21, 28),
  );
  const cut = forged(encodeBranch(chunkName, [1, 2]), (node) => node.writeUInt32LE(12, 4));
  for (const node of [rounded, cut]) {
    assert.throws(() => decodeBranch(node, chunkName), { code: "corrupt" });
  }
});

test("a length beyond what an object can have is no node", () => {
  const node = encodeBranch(chunkName, [1]);
  node.writeUInt32LE(mapObjectBytesMax + 1, 4);
  assert.equal(nodeBytes(node), undefined);
  assert.equal(nodeBytes(node.subarray(0, 23)), undefined);
});
