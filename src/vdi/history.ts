import { KelpieError } from "../base/errors.ts";
import type { Extent, ExtentQuery } from "../block/block-device.ts";
import type { BlockRange } from "../store/extents.ts";
import { chunkBlocks } from "../store/formats/map-node.ts";
import type { Point } from "../store/point.ts";
import type { Store } from "../store/store.ts";
import { blocksOf, clipExtents } from "./byte-ranges.ts";
import type { VdiRegistry } from "./registry.ts";

/** Chunk maps brought in for one cache hint: 4 GiB worth. */
const cacheChunksMax = 1024;

/** What devices of this layer need to know about points beside their own. */
export class History {
  readonly #store: Store;
  readonly #registry: VdiRegistry;

  constructor(components: { store: Store; registry: VdiRegistry }) {
    this.#store = components.store;
    this.#registry = components.registry;
  }

  async extents(point: Point, name: string, query: ExtentQuery): Promise<Extent[]> {
    const range: BlockRange = {
      ...blocksOf(query.offset, query.length),
      extentsMax: query.extentsMax,
    };
    return clipExtents(await this.#blockExtents(point, name, { query, range }), query);
  }

  /** Tags, or "#id" of what has none, of the snapshots of a disk. */
  changeBases(name: string): string[] {
    const snapshots = this.#registry.snapshotsOf(name);
    return snapshots.map(({ tag, snapId }) => (tag === "" ? `#${snapId}` : tag));
  }

  async loadMaps(point: Point, offset: number, length: number): Promise<void> {
    const { first, count } = blocksOf(offset, length);
    const start = Math.floor(first / chunkBlocks);
    const end = Math.min(Math.ceil((first + count) / chunkBlocks), start + cacheChunksMax);
    for (let index = start; index < end; index++) await point.map.load(index);
  }

  #blockExtents(point: Point, name: string, at: { query: ExtentQuery; range: BlockRange }) {
    const { query, range } = at;
    switch (query.kind) {
      case "allocation":
        return this.#store.allocation(point, range);
      case "depth":
        return this.#store.depth(point, range);
      case "changed":
        return this.#store.changed(this.#base(point, name, query.since), point, range);
    }
  }

  #base(point: Point, name: string, since: string): Point {
    const base = this.#store.point(this.#registry.findSnapshot(name, since).point);
    if (familyOf(base) !== familyOf(point)) {
      throw new KelpieError(
        "invalid",
        `"${since}" and this point of "${name}" have nothing in common`,
      );
    }
    return base;
  }
}

/** The first point of a family. */
export function familyOf(point: Point): Point {
  return new Families().of(point);
}

/**
 * First points of the families of many points, for one answer: the way up is gone once, however many stand
 * on it. Not to be kept, for a family may lose its first point.
 */
export class Families {
  readonly #found = new Map<Point, Point>();

  of(point: Point): Point {
    const path: Point[] = [];
    let at = point;
    let root = this.#found.get(at);
    while (root === undefined) {
      path.push(at);
      const { parent } = at;
      if (parent === undefined) root = at;
      else {
        at = parent;
        root = this.#found.get(at);
      }
    }
    for (const one of path) this.#found.set(one, root);
    return root;
  }
}
