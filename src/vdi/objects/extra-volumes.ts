import { Mutex } from "../../base/mutex.ts";
import type { PointChange } from "../../store/formats/catalog-record.ts";
import type { Store } from "../../store/store.ts";
import type { History } from "../history.ts";
import type { VdiRegistry } from "../registry.ts";
import { Volume } from "../volume.ts";

/** Kept open: each has a log, and is written by one client for a short time. */
const openMax = 4;

/** Extra points as devices for writing, one thing at a time, so that each has one writer and one log. */
export class ExtraVolumes {
  readonly #components: { store: Store; registry: VdiRegistry; history: History };
  readonly #writing = new Mutex();
  /** By extra point; the least recently used one first. */
  readonly #open = new Map<number, Volume>();

  constructor(components: { store: Store; registry: VdiRegistry; history: History }) {
    this.#components = components;
  }

  /** Of a point that has one; undefined, without `action`, if it has none any more. */
  write<T>(point: number, action: (volume: Volume) => Promise<T>): Promise<T | undefined> {
    return this.#writing.run(async () => {
      const { store, registry, history } = this.#components;
      const extra = registry.objects.extras.get(point);
      if (extra === undefined) return undefined;
      const found = this.#open.get(extra);
      this.#open.delete(extra);
      const tip = found?.tip ?? store.tip(store.point(extra));
      const volume = found ?? new Volume({ name: "" }, { tip, history });
      this.#open.set(extra, volume);
      for (const one of this.#open.keys()) if (this.#open.size > openMax) await this.#close(one);
      return await action(volume);
    });
  }

  async flush(point: number): Promise<void> {
    const extra = this.#components.registry.objects.extras.get(point);
    if (extra !== undefined) await this.#open.get(extra)?.flush();
  }

  /**
   * Runs `action`, which gives up these points, with what its record says of them and their extra
   * points.
   */
  async deleting<T>(
    points: readonly number[],
    action: (changes: PointChange[]) => Promise<T>,
  ): Promise<T> {
    const { extras } = this.#components.registry.objects;
    const changes = points.map((id): PointChange => ({ type: "delete", id }));
    if (!points.some((point) => extras.has(point))) return await action(changes);
    return await this.#writing.run(async () => {
      for (const point of points) {
        const id = extras.get(point);
        if (id === undefined) continue;
        await this.#close(id);
        changes.push({ type: "delete", id });
      }
      return await action(changes);
    });
  }

  /** Before a point is made that stands on this one. */
  freeze(extra: number): Promise<void> {
    return this.#writing.run(() => this.#close(extra));
  }

  async #close(extra: number): Promise<void> {
    const volume = this.#open.get(extra);
    if (volume === undefined) return;
    this.#open.delete(extra);
    await this.#components.store.closeTip(volume.tip);
  }
}
