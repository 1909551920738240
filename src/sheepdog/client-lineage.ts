import { KelpieError } from "../base/errors.ts";
import type { SheepdogClient } from "./client.ts";
import { isRefused } from "./client-errors.ts";
import { readHeader } from "./client-inode.ts";
import { lineageMax } from "./client-limits.ts";
import { result } from "./results.ts";

/** The vids that a point stands on, nearest first, read as far as somebody asked. */
export class Lineage {
  readonly #client: SheepdogClient;
  /** Parents that are known, of any points; what is read is added. */
  readonly #parents: Map<number, number>;
  readonly #distances = new Map<number, number>();
  #next: number;
  #reading: Promise<void> = Promise.resolve();

  /** Of a point whose parent is `parentVid`; 0 is none. */
  constructor(
    parentVid: number,
    components: { client: SheepdogClient },
    parents = new Map<number, number>(),
  ) {
    this.#client = components.client;
    this.#parents = parents;
    this.#next = parentVid;
  }

  /** Ancestors found so far. */
  get length(): number {
    return this.#distances.size;
  }

  /** 1 for the parent, 2 for the parent's; undefined for a vid that is no ancestor. */
  async distanceTo(vid: number): Promise<number | undefined> {
    while (!this.#distances.has(vid) && this.#next !== 0) {
      const known = this.#parents.get(this.#next);
      if (known !== undefined) {
        this.#step(known);
        continue;
      }
      this.#reading = this.#reading.then(() => this.#readOne());
      await this.#reading;
    }
    return this.#distances.get(vid);
  }

  /** The parent first. */
  async all(): Promise<number[]> {
    await this.distanceTo(0); // which nobody is
    return [...this.#distances.keys()];
  }

  async #readOne(): Promise<void> {
    const vid = this.#next;
    if (vid === 0) return;
    const parent = this.#parents.get(vid) ?? (await this.#parentOf(vid));
    this.#parents.set(vid, parent);
    if (this.#next === vid) this.#step(parent);
  }

  #step(parent: number): void {
    const isRing = this.#distances.has(this.#next) || this.#distances.size >= lineageMax;
    if (isRing) throw new KelpieError("io", "the history of the disk has no beginning");
    this.#distances.set(this.#next, this.#distances.size + 1);
    this.#next = parent;
  }

  async #parentOf(vid: number): Promise<number> {
    try {
      return (await readHeader(this.#client, vid)).parentVid;
    } catch (error) {
      // Where vids are used again what was deleted is gone for good, and the line ends there.
      if (isRefused(error, result.noObject)) return 0;
      throw error;
    }
  }
}
