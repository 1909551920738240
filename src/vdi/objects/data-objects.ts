import { lengthOf } from "../../base/bytes.ts";
import { type Completion, isPending } from "../../base/completion.ts";
import { blockBytes } from "../../block/block-device.ts";
import { mapsAny } from "../../store/own-chunks.ts";
import type { Point } from "../../store/point.ts";
import { blocksOf, readBytes } from "../byte-ranges.ts";
import type { Vdis } from "../vdis.ts";
import type { Volume } from "../volume.ts";
import { objectBytes, objectCount } from "./object-size.ts";
import { type CreateObject, ObjectError, type ObjectId } from "./objects.ts";
import type { Owners } from "./owners.ts";
import type { VidResolver } from "./vid-resolver.ts";
import type { Vid } from "./vid-table.ts";

/** A working VDI, for one request: its point is the vid's, and stays so until the request is answered. */
export interface TipOfVid {
  entry: Vid;
  point: Point;
  volume: Volume;
}

/** Where an object of a point is. `inDisk` of its bytes are within the disk. */
interface Place {
  start: number;
  inDisk: number;
  size: number;
}

/** Objects of a disk's data: pieces of its blocks. Whole objects are never copied or kept. */
export class DataObjects {
  readonly #vdis: Vdis;
  readonly #vids: VidResolver;
  readonly #owners: Owners;

  constructor(components: { vdis: Vdis; vids: VidResolver; owners: Owners }) {
    this.#vdis = components.vdis;
    this.#vids = components.vids;
    this.#owners = components.owners;
  }

  /**
   * By any vid that has it: what a point does not own it shares with the owner. On the line of the working
   * VDI a hole reads as zeros: it may be what another protocol trimmed since the client read its map.
   */
  read(id: ObjectId, offset: number, target: Uint8Array): Completion<void> {
    const vid = this.#vids.resolve(id.vid);
    if (vid.kind === "tip") {
      const atTip = ({ entry, point, volume }: TipOfVid) => {
        const place = placeOf(id, { entry, point });
        mustFit(id, place, { offset, length: target.length });
        const read = (part: Uint8Array, at: number) => volume.read(part, at);
        return readPart(place, { offset, target, read });
      };
      return this.onTip(id.vid, atTip, () => this.read(id, offset, target));
    }
    if (vid.kind === "stale") throw staleVid(id.vid);
    const { entry, point } = vid;
    const place = placeOf(id, { entry, point });
    mustFit(id, place, { offset, length: target.length });
    const { store } = this.#vdis;
    const blocks = (part: Uint8Array, first: number) => store.read(point, { target: part, first });
    const read = (part: Uint8Array, at: number) => readBytes(blocks, part, at);
    const isThere = () => this.#leadsToTip(entry, point);
    return ifMapped(point, { id, place, isThere }, () => readPart(place, { offset, target, read }));
  }

  write(id: ObjectId, offset: number, chunks: readonly Uint8Array[]): Completion<void> {
    return this.onTip(id.vid, (tip) => {
      const place = placeOf(id, tip);
      mustFit(id, place, { offset, length: lengthOf(chunks) });
      return ifMapped(tip.point, { id, place }, () => overlay(tip, place, { offset, chunks }));
    });
  }

  /**
   * Accepted when the client knows who owned the object until now, or when the disk owns it already: then
   * it is a request that comes again, and others may have written there since. So it never replaces.
   */
  create(id: ObjectId, request: CreateObject): Completion<void> {
    return this.onTip(id.vid, (tip) => {
      const place = placeOf(id, tip);
      mustFit(id, place, { offset: request.offset, length: lengthOf(request.chunks) });
      const mapped = mapsAny(tip.point.map, blocksOf(place.start, place.inDisk));
      if (mapped === false && request.cow === undefined) return createNew(tip, place, request);
      // Looked up again below; what fails is told there.
      if (typeof mapped !== "boolean") mapped.catch(() => {});
      return this.#createLater(tip, { id, place, request });
    });
  }

  /** "remove": it must be there. */
  drop(id: ObjectId, how: "remove" | "discard"): Completion<void> {
    return this.onTip(id.vid, (tip) => {
      const place = placeOf(id, tip);
      const trim = () => tip.volume.trim(place.start, place.inDisk);
      return how === "discard" ? trim() : ifMapped(tip.point, { id, place }, trim);
    });
  }

  flush(vid: number): Completion<void> {
    const { kind } = this.#vids.resolve(vid);
    const again = () => this.flush(vid);
    if (kind === "tip") return this.onTip(vid, ({ volume }) => volume.flush(), again);
    if (kind === "stale") throw staleVid(vid);
    // A snapshot was made safe before it was one.
  }

  async exists(id: ObjectId): Promise<boolean> {
    const { kind, entry, point } = this.#vids.resolve(id.vid);
    if (kind === "stale" || id.index >= objectCount(point, entry)) return false;
    const { start, inDisk } = placeOf(id, { entry, point });
    return await mapsAny(point.map, blocksOf(start, inDisk));
  }

  /**
   * Runs a request at the working VDI whose vid it is; held while the vid may be about to change. If it then
   * is a snapshot's, or nobody's, `otherwise` is what is done, or it fails.
   */
  onTip<T>(
    vid: number,
    request: (tip: TipOfVid) => Completion<T>,
    otherwise?: () => Completion<T>,
  ): Completion<T> {
    const { volume } = this.#tipOf(vid);
    return volume.vidDoor.run(() => {
      if (otherwise !== undefined && this.#vids.resolve(vid).kind !== "tip") return otherwise();
      // Who waited at the door may find everything changed.
      const tip = this.#tipOf(vid);
      return tip.volume === volume ? request(tip) : this.onTip(vid, request);
    });
  }

  #tipOf(vid: number): TipOfVid {
    const { kind, entry, point } = this.#vids.resolve(vid);
    if (kind === "tip") return { entry, point, volume: this.#vdis.volume(entry.name) };
    if (kind !== "stale" && this.#leadsToTip(entry, point)) {
      throw new ObjectError(
        "read-only",
        `vid ${vid.toString(16)} is a snapshot of "${entry.name}"`,
      );
    }
    throw staleVid(vid);
  }

  /**
   * Whether the working VDI stands on the point. If it does not, a client that goes on with it would
   * mix two histories, for it keeps what it knows of its objects.
   */
  #leadsToTip(entry: Vid, point: Point): boolean {
    const tip = this.#vdis.registry.working.get(entry.name)?.tip;
    if (tip === undefined) return false;
    for (
      let at: Point | undefined = this.#vdis.store.point(tip);
      at !== undefined;
      at = at.parent
    ) {
      if (at === point) return true;
    }
    return false;
  }

  async #createLater(
    tip: TipOfVid,
    what: { id: ObjectId; place: Place; request: CreateObject },
  ): Promise<void> {
    const { id, place, request } = what;
    const { cow } = request;
    const owner = await this.#owners.entry(tip, id.index);
    const isOwn = owner === tip.entry.vid;
    if (!isOwn) {
      const known = cow === undefined ? 0 : this.#sourceVid(cow, id);
      if (!this.isSameOwner(known, owner)) {
        throw new ObjectError(
          "stale",
          `the client takes object ${id.index} of "${tip.entry.name}" for another one`,
        );
      }
    }
    if (owner === 0) return await createNew(tip, place, request);
    if (hasBytesInDisk(request, place)) return await overlay(tip, place, request);
    if (!isOwn) await own(tip, await this.#firstMapped(tip.point, place));
  }

  #sourceVid(cow: ObjectId, id: ObjectId): number {
    if (cow.kind !== "data" || cow.index !== id.index) {
      throw new ObjectError("invalid", "an object begins as a copy of the same one of an ancestor");
    }
    return cow.vid;
  }

  /** Whether two owners are one, perhaps because one was deleted and the other is its heir. */
  isSameOwner(a: number, b: number): boolean {
    if (a === b) return true;
    if (a === 0 || b === 0) return false;
    const { vids } = this.#vdis.registry.objects;
    if (vids.get(a) === undefined || vids.get(b) === undefined) return false;
    const point = this.#vids.resolve(a).point;
    return point !== undefined && point === this.#vids.resolve(b).point;
  }

  async #firstMapped(point: Point, place: Place): Promise<number> {
    const range = blocksOf(place.start, place.inDisk);
    const extents = await this.#vdis.store.allocation(point, { ...range, extentsMax: 2 });
    const [first] = extents;
    const skipped = first?.value === 1 ? first.blocks : 0;
    return place.start + skipped * blockBytes;
  }
}

function createNew(tip: TipOfVid, place: Place, request: CreateObject): Completion<void> {
  if (hasBytesInDisk(request, place)) return overlay(tip, place, request);
  return allocate(tip, place);
}

/** Zeros that stay allocated, unless somebody wrote there meanwhile. */
function allocate({ volume }: TipOfVid, place: Place): Completion<void> {
  const range = { offset: place.start, length: place.inDisk };
  return volume.exclusively(range, async (tip, blocks) => {
    if (await mapsAny(tip.point.map, blocks)) return;
    await tip.zero(blocks.first, blocks.count, "zero");
  });
}

/** Makes the block that this byte is in the disk's own, as it is. */
function own({ volume }: TipOfVid, offset: number): Completion<void> {
  return volume.exclusively({ offset, length: 1 }, async (tip, { first }) => {
    const block = Buffer.alloc(blockBytes);
    await tip.read(block, first);
    await tip.write([block], first);
  });
}

function hasBytesInDisk({ offset, chunks }: CreateObject, place: Place): boolean {
  return offset < place.inDisk && lengthOf(chunks) > 0;
}

/** What lies behind the end of the disk is dropped: nobody can ask for it. */
function overlay(
  tip: TipOfVid,
  place: Place,
  data: { offset: number; chunks: readonly Uint8Array[] },
): Completion<void> {
  const room = Math.max(0, place.inDisk - data.offset);
  const chunks = lengthOf(data.chunks) <= room ? data.chunks : firstBytes(data.chunks, room);
  if (lengthOf(chunks) === 0) return;
  return tip.volume.write(chunks, place.start + data.offset);
}

function firstBytes(chunks: readonly Uint8Array[], length: number): Uint8Array[] {
  const kept: Uint8Array[] = [];
  let room = length;
  for (const chunk of chunks) {
    if (room > 0) kept.push(chunk.subarray(0, room));
    room -= chunk.length;
  }
  return kept;
}

function readPart(
  place: Place,
  part: {
    offset: number;
    target: Uint8Array;
    read: (target: Uint8Array, at: number) => Completion<void>;
  },
): Completion<void> {
  const { offset, target, read } = part;
  const room = Math.max(0, place.inDisk - offset);
  if (target.length <= room) return read(target, place.start + offset);
  target.fill(0, room);
  if (room > 0) return read(target.subarray(0, room), place.start + offset);
}

function placeOf(id: ObjectId, of: { entry: Vid; point: Point }): Place {
  const { entry, point } = of;
  if (id.index >= objectCount(point, entry)) {
    throw new ObjectError("no-object", `"${entry.name}" has no object ${id.index}`);
  }
  const size = objectBytes(entry);
  const start = id.index * size;
  return { start, inDisk: Math.min(size, point.sizeBytes - start), size };
}

function mustFit(id: ObjectId, { size }: Place, range: { offset: number; length: number }): void {
  if (range.offset + range.length <= size) return;
  throw new ObjectError("invalid", `bytes behind the end of object ${id.index}`);
}

/** At once if what is there is known, and `request` is. `isThere`: whether a hole is an object too. */
function ifMapped(
  point: Point,
  object: { id: ObjectId; place: Place; isThere?: () => boolean },
  request: () => Completion<void>,
): Completion<void> {
  const { id, place, isThere } = object;
  const answer = (mapped: boolean) => {
    if (mapped || isThere?.() === true) return request();
    throw new ObjectError("no-object", `object ${id.index} of ${id.vid.toString(16)} is a hole`);
  };
  const mapped = mapsAny(point.map, blocksOf(place.start, place.inDisk));
  return isPending(mapped) ? mapped.then(answer) : answer(mapped);
}

export function staleVid(vid: number): ObjectError {
  return new ObjectError("stale", `the disk of vid ${vid.toString(16)} was deleted or rolled back`);
}
