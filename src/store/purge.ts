import { messageOf } from "../base/errors.ts";
import type { Log } from "../host/log.ts";
import { chunkBlocks, pageChunks } from "./formats/map-node.ts";
import { type Chunk, type Page, positionsAt, type Root, sameNode } from "./map/nodes.ts";
import { PointMap } from "./map/point-map.ts";
import type { Point } from "./point.ts";
import { firstSegmentId, holeId } from "./segment.ts";
import type { StoreState } from "./state.ts";

/**
 * Frees what a deleted point held. A point with two or more children stays: its children are connected
 * through it. With one child, that child becomes its heir; blocks it held alone are free at once, in
 * memory; a checkpoint makes it last, and until then it is done again after a crash.
 */
export class Purger {
  readonly #state: StoreState;
  readonly #log: Log;
  #background = new Set<Promise<void>>();
  purged = 0;

  constructor(components: { state: StoreState; log: Log }) {
    this.#state = components.state;
    this.#log = components.log;
  }

  /** The next deleted point that can go, if there is one. */
  next(): Point | undefined {
    for (const point of this.#state.deletedPoints) if (point.children.size <= 1) return point;
    return undefined;
  }

  async settled(): Promise<void> {
    await Promise.all(this.#background);
  }

  async purge(point: Point): Promise<void> {
    const { parent } = point;
    const [child] = point.children;
    if (child === undefined) {
      this.#detach(point);
      // Nothing in its segments is needed by anybody: cleaning finds an empty map. That takes no
      // reading, which could fail and leave segments of a point that is gone.
      point.map = new PointMap(this.#state.nodes);
      for (const segment of this.#state.segments.values()) {
        if (segment.ownerOf() === point) segment.live = 0;
      }
    } else {
      const root = point.map.share();
      const heirRoot = child.map.share();
      child.exclusiveBlocks += this.#liveOf(point);
      point.heir = child;
      child.detach();
      this.#detach(point);
      if (parent !== undefined) child.attachTo(parent);
      await this.#free(child, root, { heirRoot, parentRoot: parent?.map.root });
      await this.#recount(child);
    }
    if (parent !== undefined) await this.#recount(parent);
    this.purged++;
  }

  /** Frees blocks of `point` that are in `old` but no longer in its map. */
  freeLost(point: Point, old: Root): void {
    const work = this.#free(point, old, { heirRoot: point.map.share(), parentRoot: undefined })
      .catch((error) => {
        // Space stays counted as used until the next check; no data is touched.
        this.#log.error("freeing failed", { point: point.id, error: messageOf(error) });
      })
      .finally(() => this.#background.delete(work));
    this.#background.add(work);
  }

  #detach(point: Point): void {
    point.detach();
    this.#state.points.delete(point.id);
    this.#state.deletedPoints.delete(point);
  }

  #liveOf(point: Point): number {
    let live = 0;
    for (const segment of this.#state.segments.values()) {
      if (segment.ownerOf() === point) live += segment.live;
    }
    return live;
  }

  /** Blocks owned by `owner` that `root` maps and its heir does not are needed by nobody. */
  async #free(
    owner: Point,
    root: Root,
    neighbours: { heirRoot: Root; parentRoot: Root | undefined },
  ): Promise<void> {
    const { nodes, segments } = this.#state;
    const map = new PointMap(nodes, root);
    const heir = new PointMap(nodes, neighbours.heirRoot);
    const parent = new PointMap(nodes, neighbours.parentRoot);
    await eachDifference(map, [heir, parent], (chunk, [inHeir]) => {
      const words = chunk.words as Uint32Array;
      for (let slot = 0; slot < chunkBlocks; slot++) {
        const id = words[slot] as number;
        if (id < firstSegmentId || holds(inHeir, slot, words)) continue;
        const segment = segments.get(id);
        if (segment === undefined) continue;
        const holder = segment.ownerOf();
        if (holder !== owner) continue;
        segment.live--;
        owner.exclusiveBlocks--;
      }
    });
  }

  /** What only `point` holds, after its children have changed. */
  async #recount(point: Point): Promise<void> {
    const [child] = point.children;
    if (point.children.size > 1) return;
    if (child === undefined) {
      point.exclusiveBlocks = this.#liveOf(point);
      return;
    }
    const childRoot = child.map.share();
    point.exclusiveBlocks = 0;
    const { nodes, segments } = this.#state;
    const own = new PointMap(nodes, point.map.root);
    const below = new PointMap(nodes, childRoot);
    let count = 0;
    await eachDifference(own, [below], (chunk, [inChild]) => {
      const words = chunk.words as Uint32Array;
      for (let slot = 0; slot < chunkBlocks; slot++) {
        const id = words[slot] as number;
        if (id < firstSegmentId || holds(inChild, slot, words)) continue;
        if (segments.get(id)?.ownerOf() === point) count++;
      }
    });
    // The child went on overwriting meanwhile and counted that itself.
    point.exclusiveBlocks += count;
  }
}

function holds(chunk: Chunk | undefined, slot: number, words: Uint32Array): boolean {
  const other = chunk?.words;
  if (other === undefined || other[slot] === holeId) return false;
  return other[slot] === words[slot] && other[positionsAt + slot] === words[positionsAt + slot];
}

/**
 * Calls `visit` for each chunk of `map` that none of the others shares, with theirs. What is shared as a
 * whole is skipped, so the cost is that of the difference.
 */
export async function eachDifference(
  map: PointMap,
  others: readonly PointMap[],
  visit: (chunk: Chunk, others: (Chunk | undefined)[], index: number) => void,
): Promise<void> {
  await map.load(0);
  for (const other of others) await other.load(0);
  const pages = map.root.pages ?? [];
  for (let pageIndex = 0; pageIndex < pages.length; pageIndex++) {
    const page = pages[pageIndex];
    if (page === undefined) continue;
    const theirs = others.map((other) => other.root.pages?.[pageIndex]);
    if (theirs.some((other) => other !== undefined && sameNode(page, other))) continue;
    for (let slot = 0; slot < pageChunks; slot++) {
      const index = pageIndex * pageChunks + slot;
      if (await isSharedChunk({ page, theirs, slot }, map, index)) continue;
      await visitChunk(map, others, { index, visit });
    }
  }
}

async function isSharedChunk(
  at: { page: Page; theirs: (Page | undefined)[]; slot: number },
  map: PointMap,
  index: number,
): Promise<boolean> {
  if (at.page.chunks === undefined) await map.load(index);
  const chunk = at.page.chunks?.[at.slot];
  if (chunk === undefined) return at.page.chunks !== undefined;
  return at.theirs.some((other) => {
    const shared = other?.chunks?.[at.slot];
    return shared !== undefined && sameNode(chunk, shared);
  });
}

async function visitChunk(
  map: PointMap,
  others: readonly PointMap[],
  at: {
    index: number;
    visit: (chunk: Chunk, others: (Chunk | undefined)[], index: number) => void;
  },
): Promise<void> {
  for (;;) {
    const chunk = await map.load(at.index);
    if (chunk === undefined) return;
    const theirs: (Chunk | undefined)[] = [];
    for (const other of others) theirs.push(await other.load(at.index));
    // Loading one may have dropped another again.
    const all = [chunk, ...theirs];
    if (all.some((one) => one !== undefined && one.words === undefined)) continue;
    if (theirs.some((other) => other !== undefined && sameNode(chunk, other))) return;
    at.visit(chunk, theirs, at.index);
    return;
  }
}
