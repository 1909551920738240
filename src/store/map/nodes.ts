import { chunkBlocks, chunkLeaves, pageChunks, zeroChunkReference } from "../formats/map-node.ts";
import { zeroId } from "../segment.ts";

/**
 * A map in memory: root, pages of 1,024 chunks, chunks of 1,024 blocks. Nodes are shared between
 * points. Who holds a node's token may change it in place; everybody else copies it first.
 *
 * `reference` is where a checkpoint stored the node, 0 if it changed since. Only a stored node's
 * content may be dropped (`words`, `chunks`), to be loaded again when it is needed.
 */
export class Chunk {
  token: number;
  reference: number;
  /** Three words a block: 1,024 segment ids, 1,024 positions, 1,024 checksums. */
  words: Uint32Array | undefined;
  /** Where its leaves are stored; known whenever `words` is there. */
  leafReferences: Float64Array;
  /** A bit for each leaf that changed since `leafReferences` was right. */
  dirtyLeaves = 0;
  /** The chunk it was copied from, as long as that one's own leaves are not known to be stored. */
  origin: Chunk | undefined;
  loading: Promise<void> | undefined;
  /** Asked for since the cache last looked. */
  used = true;

  constructor(token: number, reference: number, words: Uint32Array | undefined) {
    this.token = token;
    this.reference = reference;
    this.words = words;
    this.leafReferences = words === undefined ? noReferences : new Float64Array(chunkLeaves);
  }
}

/**
 * A chunk as its page has it. A number is the reference of a stored one that nobody has asked for since the
 * page was loaded: an object for each would be most of what a page takes, and most are never wanted.
 */
export type PageChunk = Chunk | number | undefined;

export class Page {
  token: number;
  reference: number;
  chunks: PageChunk[] | undefined;
  loading: Promise<void> | undefined;
  used = true;

  constructor(token: number, reference: number, chunks: PageChunk[] | undefined) {
    this.token = token;
    this.reference = reference;
    this.chunks = chunks;
  }
}

export class Root {
  token: number;
  reference: number;
  /** Undefined until it is loaded; then it stays. */
  pages: (Page | undefined)[] | undefined;
  loading: Promise<void> | undefined;

  constructor(token: number, reference: number, pages: (Page | undefined)[] | undefined) {
    this.token = token;
    this.reference = reference;
    this.pages = pages;
  }
}

export const allLeaves = 0xffff;
export const noReferences = new Float64Array(chunkLeaves);
export const chunkWords = 3 * chunkBlocks;
export const positionsAt = chunkBlocks;
export const crcsAt = 2 * chunkBlocks;
/** What a resident node takes, for the limit. */
export const chunkBytes = chunkWords * 4 + chunkLeaves * 8 + 200;
/** A reference is a number on the heap, 16 bytes, and a place in the array, 8. */
export const pageBytes = pageChunks * 24 + 200;

/** Whether two nodes are one, so that what is below them need not be compared. */
export function sameNode(a: PageChunk | Page, b: PageChunk | Page): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  const reference = storedAt(a);
  return reference !== 0 && reference === storedAt(b);
}

/** Where a node is stored, 0 if it changed since. */
export function storedAt(node: Chunk | Page | number): number {
  return typeof node === "number" ? node : node.reference;
}

/** The chunk that is all allocated zeros: one for everybody, never changed, never dropped. */
export const zeroChunk: Chunk = makeZeroChunk();

function makeZeroChunk(): Chunk {
  const words = new Uint32Array(chunkWords);
  words.fill(zeroId, 0, chunkBlocks);
  return new Chunk(0, zeroChunkReference, words);
}

export function storedChunk(reference: number): PageChunk {
  if (reference === 0) return undefined;
  return reference === zeroChunkReference ? zeroChunk : reference;
}
