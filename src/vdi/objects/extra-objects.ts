import { lengthOf } from "../../base/bytes.ts";
import { deviceBytesMax } from "../../block/block-device.ts";
import { mapsAny } from "../../store/own-chunks.ts";
import type { Point } from "../../store/point.ts";
import { blocksOf, readBytes } from "../byte-ranges.ts";
import type { Vdis } from "../vdis.ts";
import type { Volume } from "../volume.ts";
import { staleVid } from "./data-objects.ts";
import { objectBytes, treeNodeBytes } from "./object-size.ts";
import { type CreateObject, ObjectError, type ObjectId } from "./objects.ts";
import type { ResolvedVid, VidResolver } from "./vid-resolver.ts";
import type { Vid } from "./vid-table.ts";

const tebibyte = 2 ** 40;

/**
 * Where things are in an extra point
 *
 *    0 TiB  vmstate: objects of the disk's size, one after the other
 *    4 TiB  what a hyper volume has in its inode instead of owners: the root of its B-tree
 *    5 TiB  nodes of the B-tree, 4 MiB each
 *    8 TiB  ledgers, 4 MiB each
 */
const places = {
  vmstate: { start: 0, end: 4 * tebibyte },
  root: { start: 4 * tebibyte, end: 5 * tebibyte },
  btree: { start: 5 * tebibyte, end: 8 * tebibyte },
  ledger: { start: 8 * tebibyte, end: 16 * tebibyte },
} as const;

export type ExtraKind = Exclude<keyof typeof places, "root">;

/** Part of an extra point. */
interface Place {
  start: number;
  length: number;
}

/**
 * Objects that are no data of a disk: bytes that clients keep with it, unread. A point that has any has
 * one hidden point for all of them, made at the first write, which stays with it when it is frozen and
 * goes when it goes.
 */
export class ExtraObjects {
  readonly #vdis: Vdis;
  readonly #vids: VidResolver;

  constructor(components: { vdis: Vdis; vids: VidResolver }) {
    this.#vdis = components.vdis;
    this.#vids = components.vids;
  }

  /** Behind what was written: zeros, for QEMU reads ahead. "no-object" if the point has nothing at all. */
  async read(
    id: ObjectId & { kind: ExtraKind },
    offset: number,
    target: Uint8Array,
  ): Promise<void> {
    const vid = this.#vids.resolve(id.vid);
    const place = placeOf(id, vid.entry, { offset, length: target.length });
    if (!(await this.#read(vid, place.start + offset, target))) throw noObject(id);
  }

  async create(id: ObjectId & { kind: ExtraKind }, request: CreateObject): Promise<void> {
    const { offset, chunks } = request;
    const vid = this.#vids.resolve(id.vid);
    const place = placeOf(id, vid.entry, { offset, length: lengthOf(chunks) });
    await this.#change(id.vid, async (volume) => {
      if (lengthOf(chunks) > 0) return await volume.write(chunks, place.start + offset);
      if (await mapsAny(volume.tip.point.map, blocksOf(place.start, place.length))) return;
      await volume.zero(place.start, place.length, { keepAllocated: true });
    });
  }

  async write(
    id: ObjectId & { kind: ExtraKind },
    offset: number,
    chunks: readonly Uint8Array[],
  ): Promise<void> {
    const vid = this.#vids.resolve(id.vid);
    const place = placeOf(id, vid.entry, { offset, length: lengthOf(chunks) });
    if (!(await this.#isThere(vid, place))) throw noObject(id);
    await this.#change(id.vid, async (volume) => volume.write(chunks, place.start + offset));
  }

  async drop(id: ObjectId & { kind: ExtraKind }, how: "remove" | "discard"): Promise<void> {
    const vid = this.#vids.resolve(id.vid);
    const place = placeOf(id, vid.entry, { offset: 0, length: 0 });
    if (!(await this.#isThere(vid, place))) {
      if (how === "discard") return;
      throw noObject(id);
    }
    await this.#change(id.vid, async (volume) => volume.trim(place.start, place.length));
  }

  async exists(id: ObjectId & { kind: ExtraKind }): Promise<boolean> {
    const vid = this.#vids.resolve(id.vid);
    return await this.#isThere(vid, placeOf(id, vid.entry, { offset: 0, length: 0 }));
  }

  /** The root of a hyper volume's tree, from `offset` on; zeros if there is none. */
  async readRoot(vid: ResolvedVid, offset: number, target: Uint8Array): Promise<void> {
    if (!(await this.#read(vid, places.root.start + offset, target))) target.fill(0);
  }

  async writeRoot(vid: number, offset: number, chunks: readonly Uint8Array[]): Promise<void> {
    await this.#change(vid, async (volume) => volume.write(chunks, places.root.start + offset));
  }

  async #read(vid: ResolvedVid, at: number, target: Uint8Array): Promise<boolean> {
    const extra = this.#extraOf(vid);
    if (extra === undefined) return false;
    const { store } = this.#vdis;
    const read = (blocks: Uint8Array, first: number) =>
      store.read(extra, { target: blocks, first });
    await readBytes(read, target, at);
    return true;
  }

  async #isThere(vid: ResolvedVid, place: Place): Promise<boolean> {
    const extra = this.#extraOf(vid);
    if (extra === undefined) return false;
    return await mapsAny(extra.map, blocksOf(place.start, place.length));
  }

  /** Of the point; a hyper volume's goes on from that of the nearest point above that has one. */
  #extraOf(vid: ResolvedVid): Point | undefined {
    if (vid.point === undefined) throw staleVid(vid.entry.vid);
    const { store, registry } = this.#vdis;
    for (let at: Point | undefined = vid.point; at !== undefined; at = at.parent) {
      const extra = registry.objects.extras.get(at.id);
      if (extra !== undefined) return store.point(extra);
      if (vid.entry.storePolicy === 0) return undefined;
    }
    return undefined;
  }

  async #change(vid: number, action: (volume: Volume) => Promise<void>): Promise<void> {
    const { kind, entry, point } = this.#vids.resolve(vid);
    if (kind !== "tip" && kind !== "snapshot") throw staleVid(vid);
    const { store, registry, locks, extras } = this.#vdis;
    const extra =
      registry.objects.extras.get(point.id) ??
      (await locks.run([entry.name], () => this.#make(vid)));
    if (store.point(extra).children.size > 0) {
      throw new ObjectError("read-only", `what "${entry.name}" goes on from cannot be changed`);
    }
    let isDone = false;
    await extras.write(this.#vids.resolve(vid).point?.id ?? 0, async (volume) => {
      await action(volume);
      isDone = true;
    });
    if (!isDone) throw staleVid(vid);
  }

  async #make(vid: number): Promise<number> {
    const found = this.#vids.resolve(vid);
    const { point } = found;
    if (point === undefined) throw staleVid(vid);
    const { store, registry } = this.#vdis;
    const already = registry.objects.extras.get(point.id);
    if (already !== undefined) return already;
    const above = this.#extraOf(found);
    if (above !== undefined) await this.#vdis.extras.freeze(above.id);
    const id = store.allocateId();
    const change = {
      type: "point" as const,
      id,
      parent: above?.id ?? 0,
      sizeBytes: deviceBytesMax,
    };
    await store.commit([change], [{ type: "extra", point: point.id, extra: id }]);
    return id;
  }
}

function placeOf(
  id: ObjectId & { kind: ExtraKind },
  entry: Vid,
  range: { offset: number; length: number },
): Place {
  const length = id.kind === "vmstate" ? objectBytes(entry) : treeNodeBytes;
  const { start, end } = places[id.kind];
  const at = start + id.index * length;
  if (at + length > end || range.offset + range.length > length) {
    throw new ObjectError("invalid", `bytes that no ${id.kind} object of "${entry.name}" can have`);
  }
  return { start: at, length };
}

function noObject(id: ObjectId): ObjectError {
  return new ObjectError("no-object", `vid ${id.vid.toString(16)} has no such ${id.kind} object`);
}
