import { z } from "zod";
import { KelpieError } from "../../base/errors.ts";

/** Vids are numbers of 24 bits; 0 is none. */
export const vidCount = 2 ** 24;

const count = z.number().int().nonnegative();

/** What the note that gives a point its vid says. */
export const vidNote = z.strictObject({
  vid: z.number().int().positive().lt(vidCount),
  point: count,
  /** Of the nearest point above that has one; 0 if there is none. */
  parentVid: count,
  name: z.string(),
  copies: count,
  copyPolicy: count,
  storePolicy: count,
  blockSizeShift: z.number().int().min(20).max(31),
});

/** As it is saved. */
export const vidSaved = vidNote.extend({
  /** A snapshot that was deleted: what it shared is read through who stands on it. */
  deleted: z.boolean(),
});

export type VidNote = z.infer<typeof vidNote>;
export type Vid = z.infer<typeof vidSaved>;

/**
 * Every vid that was ever given, for ever: clients keep them, so that one that came back for something else
 * would let them read and write another disk.
 */
export class VidTable {
  readonly #byVid = new Map<number, Vid>();
  readonly #byPoint = new Map<number, Vid>();
  readonly #children = new Map<number, Vid[]>();

  get size(): number {
    return this.#byVid.size;
  }

  values(): IterableIterator<Vid> {
    return this.#byVid.values();
  }

  get(vid: number): Vid | undefined {
    return this.#byVid.get(vid);
  }

  has(vid: number): boolean {
    return this.#byVid.has(vid);
  }

  ofPoint(point: number): Vid | undefined {
    return this.#byPoint.get(point);
  }

  childrenOf(vid: number): readonly Vid[] {
    return this.#children.get(vid) ?? [];
  }

  add(entry: Vid): void {
    if (this.#byVid.has(entry.vid)) {
      throw new KelpieError("corrupt", `the catalog gives vid ${entry.vid.toString(16)} twice`);
    }
    this.#byVid.set(entry.vid, entry);
    if (entry.point !== 0) this.#byPoint.set(entry.point, entry);
    const siblings = this.#children.get(entry.parentVid);
    if (siblings === undefined) this.#children.set(entry.parentVid, [entry]);
    else siblings.push(entry);
  }

  /** The point came back under another name: it gets a vid of that name's, and this one is of nothing. */
  unbind(point: number): void {
    const entry = this.#byPoint.get(point);
    if (entry === undefined) return;
    this.#byPoint.delete(point);
    entry.point = 0;
  }

  /**
   * The first free vid from `hash` on, as Sheepdog looks for it, round the end. `isTaken` says which are
   * promised already. Undefined if there is none.
   */
  free(hash: number, isTaken: (vid: number) => boolean): number | undefined {
    const first = Math.max(hash, 1);
    for (let step = 0; step < vidCount - 1; step++) {
      const vid = ((first - 1 + step) % (vidCount - 1)) + 1;
      if (!this.#byVid.has(vid) && !isTaken(vid)) return vid;
    }
    return undefined;
  }
}
