import type { Point } from "../../store/point.ts";
import type { Store } from "../../store/store.ts";
import type { VdiRegistry } from "../registry.ts";
import { ObjectError } from "./objects.ts";
import type { Vid } from "./vid-table.ts";

/**
 * tip: of a working VDI. snapshot: of one. deleted: of a snapshot that was deleted; `point` is its own as
 * long as the store keeps it, then its heir. stale: of a tip that was discarded, or of nothing any more.
 */
export type ResolvedVid =
  | { kind: "tip" | "snapshot" | "deleted"; entry: Vid; point: Point }
  | { kind: "stale"; entry: Vid; point: undefined };

/** What vids lead to now. */
export class VidResolver {
  readonly #store: Store;
  readonly #registry: VdiRegistry;

  constructor(components: { store: Store; registry: VdiRegistry }) {
    this.#store = components.store;
    this.#registry = components.registry;
  }

  /** Fails with "no-object" for a vid that was never given. */
  resolve(vid: number): ResolvedVid {
    const entry = this.#registry.objects.vids.get(vid);
    if (entry === undefined) {
      throw new ObjectError("no-object", `there is no vid ${vid.toString(16)}`);
    }
    const point = this.#store.state.points.get(entry.point);
    if (point !== undefined) {
      if (this.#registry.working.get(entry.name)?.tip === point.id) {
        return { kind: "tip", entry, point };
      }
      if (this.#registry.snapshotAt(point.id) !== undefined) {
        return { kind: "snapshot", entry, point };
      }
      if (entry.deleted) return { kind: "deleted", entry, point };
    } else if (entry.deleted) {
      const heir = this.#heirOf(entry);
      if (heir !== undefined) return { kind: "deleted", entry, point: heir };
    }
    return { kind: "stale", entry, point: undefined };
  }

  /** The surviving point that stood on it, perhaps over others that are gone too. */
  #heirOf(entry: Vid): Point | undefined {
    const { vids } = this.#registry.objects;
    const pending = [...vids.childrenOf(entry.vid)];
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      const point = this.#store.state.points.get(at.point);
      if (point !== undefined) return point;
      if (at.deleted) pending.push(...vids.childrenOf(at.vid));
    }
    return undefined;
  }
}
