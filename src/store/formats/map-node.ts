import { crc32 } from "../../base/crc32.ts";
import { KelpieError } from "../../base/errors.ts";
import { readU64, writeU64 } from "./batch.ts";

/**
 * Nodes of a point's map, as checkpoints write them into map objects, each at a multiple of 8 bytes.
 * A node names its children by reference, so that points share what is equal.
 *
 *   root: a page for each 4 GiB of the disk
 *   page: a chunk for each 4 MiB, 1,024 of them
 *   chunk: a leaf for each 256 KiB, 16 of them
 *   leaf: a location for each block, 64 of them
 *
 * | offset | size | name    | meaning                                                  |
 * | ------ | ---- | ------- | -------------------------------------------------------- |
 * | 0      | 2    | magic   | "KN"                                                     |
 * | 2      | 1    | type    | 1 leaf, 2 chunk, 3 page, 4 root                          |
 * | 3      | 1    | version | 1                                                        |
 * | 4      | 4    | length  | of the payload                                           |
 * | 8      | 8    | index   | which leaf, chunk or page of the disk; 0 for a root      |
 * | 16     | 4    | crc     | CRC-32 of bytes 0 to 15, then of the payload             |
 * | 20     | 4    |         | zero                                                     |
 * | 24     | …    | payload |                                                          |
 *
 * Payload of root, page and chunk: a u64 reference for each child, 0 if it has none. A leaf's: a 64-bit
 * set of the blocks that have a location, then 12 bytes for each: u32 segment id, u32 position in
 * units, u32 CRC-32 of the block. Segment id 1 means zeros that stay allocated.
 *
 * Reference: map object · 2^21 + offset / 8. It never changes: a cleaned body keeps it (body.ts).
 * Reference 1 stands for a chunk that is all allocated zeros; it is stored nowhere.
 */
export const zeroChunkReference = 1;
export const nodeHeaderBytes = 24;
export const leafBlocks = 64;
export const chunkLeaves = 16;
export const chunkBlocks = leafBlocks * chunkLeaves;
export const pageChunks = 1024;
export const leafBytesMax = nodeHeaderBytes + 8 + leafBlocks * 12;
export const chunkNodeBytes = nodeHeaderBytes + chunkLeaves * 8;
export const pageNodeBytes = nodeHeaderBytes + pageChunks * 8;
/** So that offset / 8 has 21 bits. */
export const mapObjectBytesMax = 2 ** 24;
const objectFactor = 2 ** 21;
const magic = 0x4e4b;
const version = 1;

export const nodeType = { leaf: 1, chunk: 2, page: 3, root: 4 } as const;
export type NodeType = (typeof nodeType)[keyof typeof nodeType];

export function referenceOf(object: number, offset: number): number {
  return object * objectFactor + offset / 8;
}

export function objectOfReference(reference: number): number {
  return Math.floor(reference / objectFactor);
}

export function offsetOfReference(reference: number): number {
  return (reference % objectFactor) * 8;
}

export interface NodeName {
  type: NodeType;
  index: number;
}

/** A root, page or chunk from its children's references. Its length is a multiple of 8. */
export function encodeBranch(name: NodeName, references: ArrayLike<number>): Buffer {
  const node = Buffer.alloc(nodeHeaderBytes + references.length * 8);
  for (let child = 0; child < references.length; child++) {
    const reference = references[child] as number;
    if (reference !== 0) writeU64(node, reference, nodeHeaderBytes + child * 8);
  }
  return finish(node, name, node.length - nodeHeaderBytes);
}

export function decodeBranch(node: Buffer, name: NodeName): Float64Array {
  const payload = payloadOf(node, name);
  if (payload.length % 8 !== 0) throw damaged("it ends within a reference");
  const references = new Float64Array(payload.length / 8);
  for (let child = 0; child < references.length; child++) {
    const reference = readU64(payload, child * 8);
    // Above 2^53 it is rounded: another reference than was written.
    if (!Number.isSafeInteger(reference)) throw damaged("a reference is too large");
    references[child] = reference;
  }
  return references;
}

/** Of a chunk's words (segments, positions, checksums: 1,024 each), the leaf `leaf`. */
export function encodeLeaf(words: Uint32Array, leaf: number, index: number): Buffer {
  const first = leaf * leafBlocks;
  let count = 0;
  for (let block = first; block < first + leafBlocks; block++) if (words[block] !== 0) count++;
  const payloadBytes = 8 + count * 12;
  const node = Buffer.alloc(Math.ceil((nodeHeaderBytes + payloadBytes) / 8) * 8);
  let at = nodeHeaderBytes + 8;
  for (let block = first; block < first + leafBlocks; block++) {
    if (words[block] === 0) continue;
    const bit = block - first;
    const byte = nodeHeaderBytes + (bit >>> 3);
    node[byte] = (node[byte] as number) | (1 << (bit & 7));
    node.writeUInt32LE(words[block] as number, at);
    node.writeUInt32LE(words[chunkBlocks + block] as number, at + 4);
    node.writeUInt32LE(words[2 * chunkBlocks + block] as number, at + 8);
    at += 12;
  }
  return finish(node, { type: nodeType.leaf, index }, payloadBytes);
}

/** Puts a leaf's locations into a chunk's words, which are zero there. */
export function decodeLeaf(
  node: Buffer,
  target: { words: Uint32Array; leaf: number; index: number },
): void {
  const payload = payloadOf(node, { type: nodeType.leaf, index: target.index });
  const first = target.leaf * leafBlocks;
  let at = 8;
  for (let bit = 0; bit < leafBlocks; bit++) {
    if (((payload[bit >>> 3] as number) & (1 << (bit & 7))) === 0) continue;
    if (at + 12 > payload.length) throw damaged("a leaf is shorter than its set of blocks says");
    target.words[first + bit] = payload.readUInt32LE(at);
    target.words[chunkBlocks + first + bit] = payload.readUInt32LE(at + 4);
    target.words[2 * chunkBlocks + first + bit] = payload.readUInt32LE(at + 8);
    at += 12;
  }
}

/** Bytes of the node that begins at `start`, without padding; undefined if none does. */
export function nodeBytes(start: Buffer): number | undefined {
  if (start.length < nodeHeaderBytes || start.readUInt16LE(0) !== magic) return undefined;
  const length = start.readUInt32LE(4);
  return length > mapObjectBytesMax ? undefined : nodeHeaderBytes + length;
}

function finish(node: Buffer, name: NodeName, payloadBytes: number): Buffer {
  node.writeUInt16LE(magic, 0);
  node[2] = name.type;
  node[3] = version;
  node.writeUInt32LE(payloadBytes, 4);
  writeU64(node, name.index, 8);
  const payload = node.subarray(nodeHeaderBytes, nodeHeaderBytes + payloadBytes);
  node.writeUInt32LE(crc32(payload, crc32(node.subarray(0, 16))), 16);
  return node;
}

function payloadOf(node: Buffer, name: NodeName): Buffer {
  const bytes = nodeBytes(node);
  if (bytes === undefined || bytes > node.length) throw damaged("there is no node");
  const payload = node.subarray(nodeHeaderBytes, bytes);
  if (crc32(payload, crc32(node.subarray(0, 16))) !== node.readUInt32LE(16)) {
    throw damaged("its checksum does not match");
  }
  if (node[3] !== version) {
    throw new KelpieError(
      "unsupported",
      `a node of a map has version ${node[3]}; this Kelpie reads ${version}`,
      { remedy: "Use the version of Kelpie that wrote this store, or a newer one." },
    );
  }
  if (node[2] !== name.type || readU64(node, 8) !== name.index) {
    throw damaged(`it is node ${node[2]}/${readU64(node, 8)}, not ${name.type}/${name.index}`);
  }
  return payload;
}

function damaged(why: string): KelpieError {
  return new KelpieError("corrupt", `a node of a map is damaged: ${why}`);
}
