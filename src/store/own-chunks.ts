import { chunkBlocks, pageChunks } from "./formats/map-node.ts";
import { type Chunk, type Page, type PageChunk, positionsAt, sameNode } from "./map/nodes.ts";
import type { PointMap } from "./map/point-map.ts";
import { firstSegmentId, holeId } from "./segment.ts";

export interface ChunkRange {
  /** Numbers of chunks. */
  first: number;
  end: number;
}

/** Some blocks of a chunk that two maps do not share, by their place in it. */
export interface OwnChunk {
  /** Whether some of them are data or allocated zeros. */
  hasMapped(first: number, count: number): boolean;
  /** Whether the other map has all of them from the same places. */
  isShared(first: number, count: number): boolean;
}

interface OwnChunkOptions extends ChunkRange {
  visit: (index: number, chunk: OwnChunk) => void;
}

/**
 * Calls `visit` for the chunks of a range that `map` does not share with `below`. Pages that are shared are
 * skipped whole. Chunks are answered for as a whole, whatever blocks are asked about: so those that are
 * stored are not read for it, and none of those is empty.
 */
export async function eachOwnChunk(
  map: PointMap,
  below: PointMap | undefined,
  options: OwnChunkOptions,
): Promise<void> {
  await eachDifferingChunk(map, below, {
    ...options,
    visit: (index, chunk) => options.visit(index, { ...wholeChunk(chunk), isShared: () => false }),
  });
}

/** The same, with chunks read to answer for each block. */
export async function eachOwnBlocks(
  map: PointMap,
  below: PointMap | undefined,
  options: OwnChunkOptions,
): Promise<void> {
  const differing: number[] = [];
  await eachDifferingChunk(map, below, { ...options, visit: (index) => differing.push(index) });
  for (const index of differing) {
    for (;;) {
      const own = await map.load(index);
      const other = await below?.load(index);
      // Loading one may have dropped the other.
      if (isUnread(own) || isUnread(other)) continue;
      options.visit(index, {
        hasMapped: (first, count) => own !== undefined && wordsMap(own, first, count),
        isShared: (first, count) => sameWords(own, other, { first, count }),
      });
      break;
    }
  }
}

/** Whether two maps share all chunks of a page, as far as that can be told without reading. */
export function sharePage(map: PointMap, below: PointMap | undefined, pageIndex: number): boolean {
  const own = map.root.pages;
  const other = below === undefined ? [] : below.root.pages;
  if (own === undefined || other === undefined) return false;
  return sameNode(own[pageIndex], other[pageIndex]);
}

async function eachDifferingChunk(
  map: PointMap,
  below: PointMap | undefined,
  options: ChunkRange & { visit: (index: number, chunk: PageChunk) => void },
): Promise<void> {
  const { first, end, visit } = options;
  for (let index = first; index < end; ) {
    const pageIndex = Math.floor(index / pageChunks);
    const pageEnd = Math.min(end, (pageIndex + 1) * pageChunks);
    const pages = await loadPages({ map, below, pageIndex });
    for (; index < pageEnd && pages !== "shared"; index++) {
      const slot = index % pageChunks;
      const chunk = pages.own?.chunks?.[slot];
      if (!sameNode(chunk, pages.other?.chunks?.[slot])) visit(index, chunk);
    }
    index = pageEnd;
  }
}

/** Whether something is mapped in a range of blocks; at once if that can be told without reading. */
export function mapsAny(
  map: PointMap,
  range: { first: number; count: number },
): boolean | Promise<boolean> {
  const end = range.first + range.count;
  for (let block = range.first; block < end; ) {
    const index = Math.floor(block / chunkBlocks);
    const until = Math.min(end, (index + 1) * chunkBlocks);
    const found = map.lookup(index);
    if (found === "absent") {
      const rest = { first: block, count: end - block };
      return map.load(index).then(() => mapsAny(map, rest));
    }
    if (found !== undefined && wordsMap(found, block % chunkBlocks, until - block)) return true;
    block = until;
  }
  return false;
}

async function loadPages(parts: {
  map: PointMap;
  below: PointMap | undefined;
  pageIndex: number;
}): Promise<{ own: Page | undefined; other: Page | undefined } | "shared"> {
  const { map, below, pageIndex } = parts;
  for (;;) {
    // Roots stay when they are loaded.
    if (map.root.pages === undefined) await map.load(0);
    if (below?.root.pages === undefined) await below?.load(0);
    const theirs = below?.root.pages?.[pageIndex];
    if (sameNode(map.root.pages?.[pageIndex], theirs)) return "shared";
    const other = await below?.loadPage(pageIndex);
    const own = await map.loadPage(pageIndex);
    // Loading the second may have dropped the first.
    if (other === undefined || other.chunks !== undefined) return { own, other };
  }
}

function isUnread(chunk: PageChunk): boolean {
  return typeof chunk === "number" || (chunk !== undefined && chunk.words === undefined);
}

function wholeChunk(chunk: PageChunk): { hasMapped(): boolean } {
  if (chunk === undefined) return { hasMapped: () => false };
  if (typeof chunk === "number" || chunk.words === undefined) return { hasMapped: () => true };
  return { hasMapped: () => wordsMap(chunk, 0, chunkBlocks) };
}

function sameWords(
  a: Chunk | undefined,
  b: Chunk | undefined,
  { first, count }: { first: number; count: number },
): boolean {
  for (let slot = first; slot < first + count; slot++) {
    const id = a?.words?.[slot] ?? holeId;
    if (id !== (b?.words?.[slot] ?? holeId)) return false;
    if (id < firstSegmentId) continue;
    if (a?.words?.[positionsAt + slot] !== b?.words?.[positionsAt + slot]) return false;
  }
  return true;
}

function wordsMap(chunk: Chunk, first: number, count: number): boolean {
  const words = chunk.words as Uint32Array;
  for (let slot = first; slot < first + count; slot++) if (words[slot] !== holeId) return true;
  return false;
}
