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
  /**
   * By deleted vid whose point is gone: what it led to when that was looked for last. Undefined if to
   * nothing, which stays so: what is gone does not come back, and nothing new stands on it.
   */
  readonly #heirs = new Map<number, Vid | undefined>();

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
    const kind = this.kindOf(entry);
    const point = this.#pointOf(entry);
    if (point !== undefined) {
      if (kind !== undefined) return { kind, entry, point };
      if (entry.deleted) return { kind: "deleted", entry, point };
    } else if (entry.deleted) {
      const heir = this.#heirOf(entry);
      if (heir !== undefined) return { kind: "deleted", entry, point: heir };
    }
    return { kind: "stale", entry, point: undefined };
  }

  /** Undefined if no name leads to it any more. Costs the same however many others were deleted. */
  kindOf(entry: Vid): "tip" | "snapshot" | undefined {
    const point = this.#pointOf(entry);
    if (point === undefined) return undefined;
    if (this.#registry.working.get(entry.name)?.tip === point.id) return "tip";
    return this.#registry.snapshotAt(point.id) === undefined ? undefined : "snapshot";
  }

  #pointOf(entry: Vid): Point | undefined {
    return this.#store.state.points.get(entry.point);
  }

  /** The surviving point that stood on it, perhaps over others that are gone too. */
  #heirOf(entry: Vid): Point | undefined {
    const known = this.#heirs.get(entry.vid);
    if (known !== undefined) {
      const point = this.#pointOf(known);
      if (point !== undefined) return point;
    } else if (this.#heirs.has(entry.vid)) {
      return undefined;
    }
    return this.#lookForHeir(entry);
  }

  /** What it finds out on the way is known of all that it passed: they are not looked at again. */
  #lookForHeir(entry: Vid): Point | undefined {
    const { vids } = this.#registry.objects;
    const passed = [entry.vid];
    const pending = [...vids.childrenOf(entry.vid)];
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      const heir = this.#pointOf(at) === undefined ? this.#heirs.get(at.vid) : at;
      const point = heir === undefined ? undefined : this.#pointOf(heir);
      if (heir !== undefined && point !== undefined) {
        // Of all between the two. Others that were passed lead nowhere, or elsewhere.
        for (let { parentVid } = at; ; parentVid = vids.get(parentVid)?.parentVid ?? 0) {
          this.#heirs.set(parentVid, heir);
          if (parentVid === entry.vid) return point;
        }
      }
      if (!at.deleted || (heir === undefined && this.#heirs.has(at.vid))) continue;
      passed.push(at.vid);
      pending.push(...vids.childrenOf(at.vid));
    }
    for (const vid of passed) this.#heirs.set(vid, undefined);
    return undefined;
  }
}
