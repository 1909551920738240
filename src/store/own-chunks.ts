import { chunkBlocks, pageChunks } from "./formats/map-node.ts";
import { type Chunk, type Page, type PageChunk, sameNode } from "./map/nodes.ts";
import type { PointMap } from "./map/point-map.ts";
import { holeId } from "./segment.ts";

export interface ChunkRange {
  /** Numbers of chunks. */
  first: number;
  end: number;
}

/** Whether some of these blocks of a chunk, by their place in it, are data or allocated zeros. */
export type HasMapped = (first: number, count: number) => boolean;

/**
 * Calls `visit` for the chunks of a range that `map` does not share with `below`. Pages that are shared are
 * skipped whole. With `blocks` false, `hasMapped` answers for the chunk whatever it is asked for, and chunks
 * that are stored are not read for it: none of those is empty.
 */
export async function eachOwnChunk(
  map: PointMap,
  below: PointMap | undefined,
  options: ChunkRange & { blocks: boolean; visit: (index: number, hasMapped: HasMapped) => void },
): Promise<void> {
  const { first, end, blocks, visit } = options;
  for (let index = first; index < end; ) {
    const pageIndex = Math.floor(index / pageChunks);
    const pageEnd = Math.min(end, (pageIndex + 1) * pageChunks);
    const pages = await loadPages({ map, below, pageIndex });
    const unread: number[] = [];
    for (; index < pageEnd && pages !== "shared"; index++) {
      const slot = index % pageChunks;
      const chunk = pages.own?.chunks?.[slot];
      if (sameNode(chunk, pages.other?.chunks?.[slot])) continue;
      if (blocks && isUnread(chunk)) unread.push(index);
      else visit(index, mappedTest(chunk, blocks));
    }
    for (const one of unread) visit(one, mappedTest(await loadWords(map, one), true));
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

async function loadWords(map: PointMap, index: number): Promise<Chunk | undefined> {
  for (;;) {
    const chunk = await map.load(index);
    if (chunk === undefined || chunk.words !== undefined) return chunk;
  }
}

function mappedTest(chunk: PageChunk, blocks: boolean): HasMapped {
  if (chunk === undefined) return () => false;
  if (typeof chunk === "number" || chunk.words === undefined) return () => true;
  if (!blocks) return () => wordsMap(chunk, 0, chunkBlocks);
  return (first, count) => wordsMap(chunk, first, count);
}

function wordsMap(chunk: Chunk, first: number, count: number): boolean {
  const words = chunk.words as Uint32Array;
  for (let slot = first; slot < first + count; slot++) if (words[slot] !== holeId) return true;
  return false;
}
