import { chunkBlocks, pageChunks } from "./formats/map-node.ts";
import { type Chunk, positionsAt, sameNode, zeroChunk } from "./map/nodes.ts";
import type { PointMap } from "./map/point-map.ts";
import type { Point } from "./point.ts";
import { firstSegmentId, holeId, type SegmentTable, zeroId } from "./segment.ts";

export interface BlockExtent {
  blocks: number;
  value: number;
}

/**
 * Chunks gone through block by block for one answer: 8 GiB, which takes some 20 ms. An answer may end
 * before the range that was asked about; who wants more asks again.
 */
const walkedMax = 2048;

export interface BlockRange {
  first: number;
  count: number;
  extentsMax: number;
}

/** Value 0: data; 1: hole; 2: zeros that stay allocated. */
export async function allocationExtents(map: PointMap, range: BlockRange): Promise<BlockExtent[]> {
  const extents = new ExtentBuilder(range.extentsMax);
  await eachChunk(map, range, extents, (chunk, slot) => {
    const id = chunk === undefined ? holeId : (chunk.words as Uint32Array)[slot];
    return id === holeId ? 1 : id === zeroId ? 2 : 0;
  });
  return extents.extents;
}

/** Value 0: hole; n: written n - 1 points further up. */
export async function depthExtents(
  point: Point,
  segments: SegmentTable,
  range: BlockRange,
): Promise<BlockExtent[]> {
  const depths = new Map<Point, number>();
  let depth = 0;
  for (let at: Point | undefined = point; at !== undefined; at = at.parent) {
    depths.set(at, ++depth);
  }
  const extents = new ExtentBuilder(range.extentsMax);
  await eachChunk(point.map, range, extents, (chunk, slot) => {
    const id = chunk === undefined ? holeId : ((chunk.words as Uint32Array)[slot] as number);
    if (id === holeId) return 0;
    if (id < firstSegmentId) return 1;
    const owner = segments.get(id)?.ownerOf();
    return (owner === undefined ? undefined : depths.get(owner)) ?? 1;
  });
  return extents.extents;
}

/** Value 1: the blocks may differ between the two maps; 0: they are the same. */
export async function changedExtents(
  a: PointMap,
  b: PointMap,
  range: BlockRange,
): Promise<BlockExtent[]> {
  const extents = new ExtentBuilder(range.extentsMax);
  const end = range.first + range.count;
  let walked = 0;
  for (let block = range.first; block < end && !extents.isFull && walked < walkedMax; ) {
    const index = Math.floor(block / chunkBlocks);
    const shared = sharedFrom(a, b, index);
    if (shared > 0) {
      const until = Math.min(end, (index + shared) * chunkBlocks);
      extents.add(0, until - block);
      block = until;
      continue;
    }
    const [left, right] = [await a.load(index), await b.load(index)];
    const until = Math.min(end, (index + 1) * chunkBlocks);
    if (left?.words === undefined && left !== undefined) continue;
    if (right?.words === undefined && right !== undefined) continue;
    walked++;
    for (; block < until; block++) {
      extents.add(sameBlock(left, right, block % chunkBlocks) ? 0 : 1, 1);
    }
  }
  return extents.extents;
}

/** Chunks from `index` on that both maps share, as far as can be told without loading them. */
function sharedFrom(a: PointMap, b: PointMap, index: number): number {
  const [left, right] = [a.root.pages, b.root.pages];
  if (left === undefined || right === undefined) return 0;
  if (left === right) return Number.POSITIVE_INFINITY;
  const [leftPage, rightPage] = [
    left[Math.floor(index / pageChunks)],
    right[Math.floor(index / pageChunks)],
  ];
  if (sameNode(leftPage, rightPage)) return pageChunks - (index % pageChunks);
  const slot = index % pageChunks;
  const isKnown =
    (leftPage === undefined || leftPage.chunks !== undefined) &&
    (rightPage === undefined || rightPage.chunks !== undefined);
  return isKnown && sameNode(leftPage?.chunks?.[slot], rightPage?.chunks?.[slot]) ? 1 : 0;
}

function sameBlock(a: Chunk | undefined, b: Chunk | undefined, slot: number): boolean {
  const left = a?.words?.[slot] ?? holeId;
  const right = b?.words?.[slot] ?? holeId;
  // A hole and allocated zeros read the same.
  if (left < firstSegmentId || right < firstSegmentId) {
    return left < firstSegmentId && right < firstSegmentId;
  }
  return left === right && a?.words?.[positionsAt + slot] === b?.words?.[positionsAt + slot];
}

async function eachChunk(
  map: PointMap,
  range: BlockRange,
  extents: ExtentBuilder,
  valueAt: (chunk: Chunk | undefined, slot: number) => number,
): Promise<void> {
  const end = range.first + range.count;
  let walked = 0;
  for (let block = range.first; block < end && !extents.isFull && walked < walkedMax; ) {
    const index = Math.floor(block / chunkBlocks);
    let chunk = map.lookup(index);
    if (chunk === "absent") chunk = await map.load(index);
    if (chunk === undefined) {
      const pageIndex = Math.floor(index / pageChunks);
      const chunks = map.pageIsEmpty(pageIndex) ? (pageIndex + 1) * pageChunks : index + 1;
      const until = Math.min(end, chunks * chunkBlocks);
      extents.add(valueAt(undefined, 0), until - block);
      block = until;
      continue;
    }
    if (chunk.words === undefined) continue;
    const until = Math.min(end, (index + 1) * chunkBlocks);
    if (chunk === zeroChunk) {
      // All of it is alike: a disk of zeros has a quarter of a million of these in a TiB.
      extents.add(valueAt(chunk, 0), until - block);
      block = until;
      continue;
    }
    walked++;
    for (; block < until; block++) extents.add(valueAt(chunk, block % chunkBlocks), 1);
  }
}

class ExtentBuilder {
  readonly extents: BlockExtent[] = [];
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  /** One more than asked for was begun: it is dropped, for it may not be whole. */
  isFull = false;

  add(value: number, blocks: number): void {
    if (this.isFull) return;
    const last = this.extents.at(-1);
    if (last !== undefined && last.value === value) last.blocks += blocks;
    else if (this.extents.length === this.#max) this.isFull = true;
    else this.extents.push({ blocks, value });
  }
}
