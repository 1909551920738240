import { blockBytes } from "../../block/block-device.ts";
import { chunkBlocks } from "../../store/formats/map-node.ts";
import { eachOwnBlocks, eachOwnChunk, mapsAny, type OwnChunk } from "../../store/own-chunks.ts";
import type { Point } from "../../store/point.ts";
import type { VdiRegistry } from "../registry.ts";
import { objectBytes, objectCount } from "./object-size.ts";
import type { Vid } from "./vid-table.ts";

/** Entries kept of frozen points, four bytes each: one disk of 16 TiB, or many smaller ones. */
const cachedEntriesMax = 4 * 2 ** 20;
const chunkBytes = chunkBlocks * blockBytes;

interface Owned {
  point: Point;
  entry: Vid;
}

/**
 * Says who owns each object of a point, as `data_vdi_id[]` of its inode. Nothing of it is stored: an object
 * whose chunk of the map is that of the nearest point above that has a vid has the owner that it has there;
 * else it is the point's own if anything of it is mapped, and a hole if not. So it is right whoever wrote.
 */
export class Owners {
  readonly #registry: VdiRegistry;
  /** Of frozen points, by their number; the least recently used one first. */
  readonly #cache = new Map<number, Uint32Array>();
  #cachedEntries = 0;

  constructor(components: { registry: VdiRegistry }) {
    this.#registry = components.registry;
  }

  /** Entries `first` to `first + count`, of objects that there are. The caller must not change them. */
  async entries(of: Owned, range: { first: number; count: number }): Promise<Uint32Array> {
    const line = this.#lineAbove(of);
    let below: { point: Point; entries: Uint32Array } | undefined;
    // From the top down: what is above is needed for what stands on it.
    for (const one of line.reverse()) {
      const entries = this.#cached(one.point.id) ?? (await this.#whole(one, below));
      below = { point: one.point, entries };
    }
    if (this.#isFrozen(of.point)) {
      const all = this.#cached(of.point.id) ?? (await this.#whole(of, below));
      return all.subarray(range.first, range.first + range.count);
    }
    return await this.#compute(of, range, below);
  }

  async entry(of: Owned, index: number): Promise<number> {
    const [owner] = await this.entries(of, { first: index, count: 1 });
    return owner ?? 0;
  }

  /** Points above that have vids, nearest first, up to the first one whose entries are at hand. */
  #lineAbove({ point }: Owned): Owned[] {
    const line: Owned[] = [];
    for (let at = point.parent; at !== undefined; at = at.parent) {
      const entry = this.#registry.objects.vids.ofPoint(at.id);
      if (entry === undefined) continue;
      line.push({ point: at, entry });
      if (this.#cached(at.id) !== undefined) break;
    }
    return line;
  }

  #isFrozen(point: Point): boolean {
    return point.children.size > 0 || this.#registry.snapshotAt(point.id) !== undefined;
  }

  #cached(point: number): Uint32Array | undefined {
    const found = this.#cache.get(point);
    if (found === undefined) return undefined;
    this.#cache.delete(point);
    this.#cache.set(point, found);
    return found;
  }

  async #whole(
    of: Owned,
    below: { point: Point; entries: Uint32Array } | undefined,
  ): Promise<Uint32Array> {
    const count = objectCount(of.point, of.entry);
    const entries = await this.#compute(of, { first: 0, count }, below);
    this.#keep(of.point.id, entries);
    return entries;
  }

  #keep(point: number, entries: Uint32Array): void {
    if (this.#cache.has(point)) return;
    this.#cache.set(point, entries);
    this.#cachedEntries += entries.length;
    for (const [oldest, { length }] of this.#cache) {
      if (this.#cachedEntries <= cachedEntriesMax) return;
      this.#cache.delete(oldest);
      this.#cachedEntries -= length;
    }
  }

  async #compute(
    of: Owned,
    range: { first: number; count: number },
    below: { point: Point; entries: Uint32Array } | undefined,
  ): Promise<Uint32Array> {
    const { point, entry } = of;
    const entries = new Uint32Array(range.count);
    if (below !== undefined) {
      entries.set(below.entries.subarray(range.first, range.first + range.count));
    }
    const size = objectBytes(entry);
    const end = range.first + range.count;
    const perChunk = Math.max(1, chunkBytes / size);
    const perObject = Math.max(1, size / chunkBytes);
    /** Objects of several chunks of which those that differ are holes. */
    const doubtful = new Set<number>();
    const visit = (index: number, chunk: OwnChunk) => {
      if (perObject > 1) {
        const object = Math.floor(index / perObject);
        if (!chunk.hasMapped(0, chunkBlocks)) doubtful.add(object);
        else entries[object - range.first] = entry.vid;
        return;
      }
      const blocks = chunkBlocks / perChunk;
      for (let at = 0; at < perChunk; at++) {
        const object = index * perChunk + at;
        if (object < range.first || object >= end) continue;
        const first = at * blocks;
        // Not because of a neighbour in the chunk: its client does not know of that.
        if (perChunk > 1 && chunk.isShared(first, blocks)) continue;
        entries[object - range.first] = chunk.hasMapped(first, blocks) ? entry.vid : 0;
      }
    };
    const each = perChunk > 1 ? eachOwnBlocks : eachOwnChunk;
    await each(point.map, below?.point.map, {
      first: Math.floor(range.first / perChunk) * perObject,
      end: Math.ceil(end / perChunk) * perObject,
      visit,
    });
    for (const object of doubtful) {
      if (entries[object - range.first] === entry.vid) continue;
      const blocks = perObject * chunkBlocks;
      const isMapped = await mapsAny(point.map, { first: object * blocks, count: blocks });
      entries[object - range.first] = isMapped ? entry.vid : 0;
    }
    return entries;
  }
}
