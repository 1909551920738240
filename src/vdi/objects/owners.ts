import { blockBytes } from "../../block/block-device.ts";
import { chunkBlocks, pageChunks } from "../../store/formats/map-node.ts";
import {
  eachOwnBlocks,
  eachOwnChunk,
  mapsAny,
  type OwnChunk,
  sharePage,
} from "../../store/own-chunks.ts";
import type { Point } from "../../store/point.ts";
import type { Store } from "../../store/store.ts";
import type { VdiRegistry } from "../registry.ts";
import { objectBytes, objectCount } from "./object-size.ts";
import { ObjectError } from "./objects.ts";
import { Turns } from "./turns.ts";
import type { Vid } from "./vid-table.ts";

/** Entries kept of frozen points, four bytes each: one disk of 16 TiB, or many smaller ones. */
const cachedEntriesMax = 4 * 2 ** 20;
/** What a page in the cache takes besides its entries, in entries. */
const cachedPageEntries = 64;
/** Of the points on the way to one that is asked for, every so many are kept for others that ask. */
const keptEvery = 16;
const chunkBytes = chunkBlocks * blockBytes;

interface Owned {
  point: Point;
  entry: Vid;
}

/** Entries of one point, from object `first` on. */
interface Part {
  first: number;
  entries: Uint32Array;
}

/**
 * Says who owns each object of a point, as `data_vdi_id[]` of its inode. Nothing of it is stored: an object
 * whose chunk of the map is that of the nearest point above that has a vid has the owner that it has there;
 * else it is the point's own if anything of it is mapped, and a hole if not. So it is right whoever wrote.
 *
 * Points above are looked at by pages, the objects of a page of the map: only those that are asked about,
 * each once for all who ask at the same time.
 */
export class Owners {
  readonly #store: Store;
  readonly #registry: VdiRegistry;
  readonly #turns: Turns;
  /** Pages of frozen points, by `keyOf`; the least recently used one first. */
  readonly #cache = new Map<string, Uint32Array>();
  #cachedEntries = 0;
  /** Pages that are being looked for. */
  readonly #looking = new Map<string, Promise<Uint32Array | undefined>>();

  constructor(components: { store: Store; registry: VdiRegistry }) {
    this.#store = components.store;
    this.#registry = components.registry;
    this.#turns = new Turns({ timers: components.store.timers });
  }

  /** Entries `first` to `first + count`, of objects that there are. */
  async entries(of: Owned, range: { first: number; count: number }): Promise<Uint32Array> {
    for (;;) {
      const found = this.#isFrozen(of.point)
        ? await this.#ofFrozen(of, range)
        : await this.#ofTip(of, range);
      if (found !== undefined) return found;
      if (this.#isThere(of)) continue;
      throw new ObjectError("stale", `"${of.entry.name}" was changed while its inode was read`);
    }
  }

  async entry(of: Owned, index: number): Promise<number> {
    const [owner] = await this.entries(of, { first: index, count: 1 });
    return owner ?? 0;
  }

  /** Undefined, here and below: a point was given up meanwhile, and perhaps what its map was stored in. */
  async #ofTip(
    of: Owned,
    range: { first: number; count: number },
  ): Promise<Uint32Array | undefined> {
    const above = this.#above(of.point);
    const entries =
      above === undefined ? new Uint32Array(range.count) : await this.#ofFrozen(above, range);
    if (entries === undefined) return undefined;
    // Last, so that what is answered is so in this moment.
    const isDone = await this.#overlay(of, above, { first: range.first, entries });
    return isDone ? entries : undefined;
  }

  async #ofFrozen(
    of: Owned,
    range: { first: number; count: number },
  ): Promise<Uint32Array | undefined> {
    const entries = new Uint32Array(range.count);
    const end = range.first + range.count;
    const objects = pageObjects(of.entry);
    for (let page = Math.floor(range.first / objects); page * objects < end; page++) {
      const found = this.#cached(of, page) ?? (await this.#look(of, page));
      if (found === undefined) return undefined;
      const start = page * objects;
      const from = Math.max(range.first, start);
      entries.set(found.subarray(from - start, end - start), from - range.first);
    }
    return entries;
  }

  /** The nearest point above that has a vid. */
  #above(point: Point): Owned | undefined {
    for (let at = point.parent; at !== undefined; at = at.parent) {
      const entry = this.#registry.objects.vids.ofPoint(at.id);
      if (entry !== undefined) return { point: at, entry };
    }
    return undefined;
  }

  #isFrozen(point: Point): boolean {
    return point.children.size > 0 || this.#registry.snapshotAt(point.id) !== undefined;
  }

  #isThere({ point }: Owned): boolean {
    return this.#store.state.points.get(point.id) === point;
  }

  #cached(of: Owned, page: number): Uint32Array | undefined {
    const key = keyOf(of, page);
    const found = this.#cache.get(key);
    if (found === undefined) return undefined;
    this.#cache.delete(key);
    this.#cache.set(key, found);
    return found;
  }

  #keep(of: Owned, page: number, entries: Uint32Array): void {
    const key = keyOf(of, page);
    if (this.#cache.has(key)) return;
    this.#cache.set(key, entries);
    this.#cachedEntries += entries.length + cachedPageEntries;
    for (const [oldest, { length }] of this.#cache) {
      if (this.#cachedEntries <= cachedEntriesMax) return;
      this.#cache.delete(oldest);
      this.#cachedEntries -= length + cachedPageEntries;
    }
  }

  /** Entries of a page that are not at hand, of a frozen point. */
  #look(of: Owned, page: number): Promise<Uint32Array | undefined> {
    const key = keyOf(of, page);
    const before = this.#looking.get(key);
    if (before !== undefined) return before;
    const looking = this.#page(of, page).finally(() => {
      this.#looking.delete(key);
    });
    this.#looking.set(key, looking);
    return looking;
  }

  async #page(of: Owned, page: number): Promise<Uint32Array | undefined> {
    const line: Owned[] = [];
    let above: Owned | undefined = of;
    let entries: Uint32Array | undefined;
    while (above !== undefined && entries === undefined) {
      line.push(above);
      above = this.#above(above.point);
      if (above !== undefined) entries = this.#cached(above, page);
    }
    // From the top down: what is above is needed for what stands on it.
    for (const [depth, one] of line.reverse().entries()) {
      this.#turns.spend(1);
      const due = this.#turns.due();
      if (due !== undefined) await due;
      entries = await this.#level(one, above, { page, entries });
      if (entries === undefined) return undefined;
      if (one === of || depth % keptEvery === keptEvery - 1) this.#keep(one, page, entries);
      above = one;
    }
    return entries;
  }

  /** One page of a point, from what is known of the one above. */
  async #level(
    of: Owned,
    above: Owned | undefined,
    known: { page: number; entries: Uint32Array | undefined },
  ): Promise<Uint32Array | undefined> {
    const { page } = known;
    const objects = pageObjects(of.entry);
    const first = page * objects;
    const length = Math.max(0, Math.min(objects, objectCount(of.point, of.entry) - first));
    const isSame = known.entries?.length === length;
    if (isSame && sharePage(of.point.map, above?.point.map, page)) return known.entries;
    const entries = new Uint32Array(length);
    if (known.entries !== undefined) entries.set(known.entries.subarray(0, length));
    return (await this.#overlay(of, above, { first, entries })) ? entries : undefined;
  }

  /** Changes what is not as it is above, by pages. False when one of the two was given up. */
  async #overlay(of: Owned, above: Owned | undefined, part: Part): Promise<boolean> {
    const { first, entries } = part;
    const objects = pageObjects(of.entry);
    const end = first + entries.length;
    for (let at = first; at < end; ) {
      const page = Math.floor(at / objects);
      const until = Math.min(end, (page + 1) * objects);
      const due = this.#turns.due();
      if (due !== undefined) await due;
      if (!this.#areThere(of, above)) return false;
      if (!sharePage(of.point.map, above?.point.map, page)) {
        const piece = { first: at, entries: entries.subarray(at - first, until - first) };
        try {
          this.#turns.spend(await compare(of, above, piece));
        } catch (error) {
          if (this.#areThere(of, above)) throw error;
        }
        if (!this.#areThere(of, above)) return false;
      }
      this.#turns.spend(1);
      at = until;
    }
    return true;
  }

  #areThere(of: Owned, above: Owned | undefined): boolean {
    return this.#isThere(of) && (above === undefined || this.#isThere(above));
  }
}

/** Objects whose chunks are in one page of the map. */
function pageObjects(entry: Vid): number {
  return (pageChunks * chunkBytes) / objectBytes(entry);
}

/** A point that came back under another name has another vid. */
function keyOf({ point, entry }: Owned, page: number): string {
  return `${point.id} ${entry.vid} ${page}`;
}

/** Changes what is not as it is above, of objects of one page; says how much was compared. */
async function compare(of: Owned, above: Owned | undefined, part: Part): Promise<number> {
  const { point, entry } = of;
  const { first, entries } = part;
  const end = first + entries.length;
  const size = objectBytes(entry);
  const perChunk = Math.max(1, chunkBytes / size);
  const perObject = Math.max(1, size / chunkBytes);
  const chunks = {
    first: Math.floor(first / perChunk) * perObject,
    end: Math.ceil(end / perChunk) * perObject,
  };
  let steps = chunks.end - chunks.first;
  /** Objects of several chunks of which those that differ are holes. */
  const doubtful = new Set<number>();
  const visit = (index: number, chunk: OwnChunk) => {
    if (perObject > 1) {
      const object = Math.floor(index / perObject);
      if (!chunk.hasMapped(0, chunkBlocks)) doubtful.add(object);
      else entries[object - first] = entry.vid;
      return;
    }
    const blocks = chunkBlocks / perChunk;
    for (let at = 0; at < perChunk; at++) {
      const object = index * perChunk + at;
      if (object < first || object >= end) continue;
      const start = at * blocks;
      // Not because of a neighbour in the chunk: its client does not know of that.
      if (perChunk > 1 && chunk.isShared(start, blocks)) continue;
      entries[object - first] = chunk.hasMapped(start, blocks) ? entry.vid : 0;
    }
    if (perChunk > 1) steps += chunkBlocks;
  };
  const each = perChunk > 1 ? eachOwnBlocks : eachOwnChunk;
  await each(point.map, above?.point.map, { ...chunks, visit });
  for (const object of doubtful) {
    if (entries[object - first] === entry.vid) continue;
    const blocks = perObject * chunkBlocks;
    steps += blocks;
    const isMapped = await mapsAny(point.map, { first: object * blocks, count: blocks });
    entries[object - first] = isMapped ? entry.vid : 0;
  }
  return steps;
}
