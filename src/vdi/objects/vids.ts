import { Mutex } from "../../base/mutex.ts";
import { vdiNameHash } from "../../sheepdog/wire-hash.ts";
import type { Point } from "../../store/point.ts";
import type { Store } from "../../store/store.ts";
import type { Note } from "../notes.ts";
import type { VdiRegistry } from "../registry.ts";
import { arrayObjectsMax } from "./object-size.ts";
import { ObjectError, type VdiSettings } from "./objects.ts";
import { type Vid, type VidNote, vidCount } from "./vid-table.ts";

const shiftMax = 31;

/**
 * Gives vids. A point gets its vid when a client of Sheepdog first asks for its name, together with all
 * other points of the name and everything that they stand on: so the vid of a point's parent is there
 * before its own, and a point that nobody of Sheepdog asked for costs nothing.
 */
export class Vids {
  readonly #store: Store;
  readonly #registry: VdiRegistry;
  /** Held from where vids are chosen until their record is there. */
  readonly #choosing = new Mutex();

  constructor(components: { store: Store; registry: VdiRegistry }) {
    this.#store = components.store;
    this.#registry = components.registry;
  }

  /** Begin it, choose, and commit the notes, within `run`. */
  run<T>(action: (choice: VidChoice) => Promise<T>): Promise<T> {
    return this.#choosing.run(() =>
      action(new VidChoice({ store: this.#store, registry: this.#registry })),
    );
  }

  /** Gives vids to all points of the names, in one record; in none if they have theirs. */
  async assign(names: readonly string[]): Promise<void> {
    if (!this.#areMissing(names)) return;
    await this.run(async (choice) => {
      for (const name of names) choice.addName(name);
      await this.#store.commit([], choice.notes());
    });
  }

  #areMissing(names: readonly string[]): boolean {
    const { vids } = this.#registry.objects;
    return names.some((name) =>
      pointsOf(this.#registry, name).some((point) => vids.ofPoint(point) === undefined),
    );
  }
}

/** Vids chosen for one record, which do not collide with each other. */
export class VidChoice {
  readonly #store: Store;
  readonly #registry: VdiRegistry;
  readonly #chosen = new Map<number, VidNote>();
  readonly #taken = new Set<number>();
  readonly #names = new Set<string>();

  constructor(components: { store: Store; registry: VdiRegistry }) {
    this.#store = components.store;
    this.#registry = components.registry;
  }

  /** All points of the name, in the order of their snap ids, after everything that they stand on. */
  addName(first: string): void {
    // Not by recursion: there may be as many clones of clones as one likes.
    const pending = [first];
    const inOrder: { point: Point; name: string }[][] = [];
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      if (this.#names.has(name)) continue;
      this.#names.add(name);
      const points: { point: Point; name: string }[] = [];
      for (const id of pointsOf(this.#registry, name)) {
        const point = this.#store.point(id);
        for (const above of this.#withoutVid(point.parent)) {
          const owner = this.#registry.snapshotAt(above.id)?.name;
          // Of no name: a snapshot that was deleted and is kept for what stands on it.
          if (owner === undefined) points.push({ point: above, name });
          else if (owner !== name) pending.push(owner);
        }
        points.push({ point, name });
      }
      inOrder.push(points);
    }
    const all = inOrder.reverse().flat();
    for (const { point, name } of all) this.#choose(point.id, name);
    // Only now are all parents known.
    for (const { point } of all) this.#inherit(point);
  }

  /**
   * What stands on the point and has none, of whatever name. Through a deleted snapshot that is kept for
   * what stands on it to all of that, which gives it one too: when it goes, its vid must lead on.
   */
  addChildren(point: Point): void {
    const pending = [...point.children];
    for (let child = pending.pop(); child !== undefined; child = pending.pop()) {
      const name = this.#registry.nameOf(child.id);
      if (name !== undefined) this.addName(name);
      else pending.push(...child.children);
    }
  }

  /** A point that the record makes. */
  addNew(
    point: number,
    of: { name: string; parent: Point | undefined; settings?: VdiSettings; storePolicy?: number },
  ): VidNote {
    const note = this.#choose(point, of.name) as VidNote;
    const above = this.vidAbove(of.parent);
    note.parentVid = above?.vid ?? 0;
    const { copies, copyPolicy, blockSizeShift } =
      of.settings ?? above ?? this.#registry.objects.defaults;
    const storePolicy = of.storePolicy ?? above?.storePolicy ?? 0;
    Object.assign(note, { copies, copyPolicy, blockSizeShift, storePolicy });
    return note;
  }

  /** Of the point, or the nearest one above that has a vid. */
  vidAbove(point: Point | undefined): VidNote | undefined {
    for (let at = point; at !== undefined; at = at.parent) {
      const found = this.#ofPoint(at.id);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** To go into the record: one note, or none. */
  notes(): Note[] {
    return this.#chosen.size === 0 ? [] : [{ type: "vids", vids: [...this.#chosen.values()] }];
  }

  *#withoutVid(from: Point | undefined): Generator<Point> {
    for (let at = from; at !== undefined; at = at.parent) {
      if (this.#ofPoint(at.id) !== undefined) return;
      yield at;
    }
  }

  #ofPoint(point: number): VidNote | Vid | undefined {
    return this.#chosen.get(point) ?? this.#registry.objects.vids.ofPoint(point);
  }

  /** Undefined if it has one. */
  #choose(point: number, name: string): VidNote | undefined {
    if (this.#ofPoint(point) !== undefined) return undefined;
    const { vids, defaults } = this.#registry.objects;
    const vid = vids.free(vdiNameHash(name), (one) => this.#taken.has(one));
    if (vid === undefined) {
      throw new ObjectError("full-vdi", `all ${vidCount - 1} vids of this store are given`);
    }
    const note = { vid, point, parentVid: 0, name, storePolicy: 0, ...defaults };
    this.#chosen.set(point, note);
    this.#taken.add(vid);
    return note;
  }

  #inherit(point: Point): void {
    const note = this.#chosen.get(point.id);
    if (note === undefined) return;
    const above = this.vidAbove(point.parent);
    if (above === undefined) {
      note.blockSizeShift = shiftFor(point.sizeBytes, note.blockSizeShift);
      return;
    }
    const { vid, copies, copyPolicy, storePolicy, blockSizeShift } = above;
    Object.assign(note, { parentVid: vid, copies, copyPolicy, storePolicy, blockSizeShift });
  }
}

/** Points of a name by snap id, the working VDI last. */
export function pointsOf(registry: VdiRegistry, name: string): number[] {
  const points = registry.snapshotsOf(name).map(({ point }) => point);
  const tip = registry.working.get(name)?.tip;
  return tip === undefined ? points : [...points, tip];
}

/** The usual one, or the smallest with which a disk of that size has no more objects than it may. */
function shiftFor(sizeBytes: number, usual: number): number {
  let shift = usual;
  while (shift < shiftMax && sizeBytes > arrayObjectsMax * 2 ** shift) shift++;
  return shift;
}
