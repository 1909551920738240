import { KelpieError } from "../base/errors.ts";
import { RequestLimiter } from "../block/request-limiter.ts";
import type { Host } from "../host/host.ts";
import type { Store } from "../store/store.ts";
import type { History } from "./history.ts";
import { Quotas } from "./quotas.ts";
import type { VdiRegistry } from "./registry.ts";
import { Volume } from "./volume.ts";

interface OpenVolumesComponents {
  store: Store;
  registry: VdiRegistry;
  history: History;
  host: Pick<Host, "clock" | "timers" | "log">;
}

/** The volumes of working VDIs that somebody used: one for each disk. Their doors are shut here. */
export class OpenVolumes {
  readonly #components: OpenVolumesComponents;
  readonly #volumes = new Map<string, Volume>();

  readonly quotas: Quotas;
  /** They have no limits any more: whatever waits must be answered. */
  #unlimited = false;

  constructor(components: OpenVolumesComponents) {
    this.#components = components;
    const { registry, store, host } = components;
    this.quotas = new Quotas({ registry, store, clock: host.clock, log: host.log });
  }

  /** Made if there is none yet. Throws "not-found". */
  get(name: string): Volume {
    const found = this.#volumes.get(name);
    if (found !== undefined) return found;
    const { store, registry, history, host } = this.#components;
    const tip = store.tip(store.point(registry.find(name).tip));
    tip.flushesLocally = registry.flushModeOf(name) === "local";
    const limiter = new RequestLimiter(host);
    const { quotas } = this;
    const volume = new Volume({ name }, { tip, history, limiter, quotas });
    this.#volumes.set(name, volume);
    this.limit(name);
    return volume;
  }

  /** What the registry says of a disk's rate counts from now on. */
  limit(name: string): void {
    const limits = this.#unlimited ? undefined : this.#components.registry.qos.get(name);
    this.#volumes.get(name)?.limiter?.set(limits);
  }

  /** For the end: nobody waits for a rate any more. */
  liftLimits(): void {
    this.#unlimited = true;
    for (const name of this.#volumes.keys()) this.limit(name);
  }

  /** What a flush of the disk waits for is another thing now. */
  async flushModeChanged(name: string): Promise<void> {
    const tip = this.#volumes.get(name)?.tip;
    if (tip === undefined) return;
    tip.flushesLocally = this.#components.registry.flushModeOf(name) === "local";
    // Flushes that were answered before it are covered, too.
    await tip.flush();
  }

  /** The disk is gone. Whoever still holds the volume gets "closed". */
  retire(name: string): void {
    const volume = this.#volumes.get(name);
    volume?.retire(new KelpieError("closed", `disk "${name}" was deleted`));
    volume?.limiter?.set(undefined);
    this.#volumes.delete(name);
  }

  /** No request is under way at these disks during `action`: each is wholly before or wholly after. */
  async behindBarrier<T>(names: readonly string[], action: () => Promise<T>): Promise<T> {
    // What comes by vid passes both doors, so the outer one first.
    return await this.holdingVids(names, async () => {
      const doors = this.#of(names).map(({ admission }) => admission);
      try {
        await Promise.all(doors.map((door) => door.close()));
        return await action();
      } finally {
        for (const door of doors) door.open();
      }
    });
  }

  /**
   * Requests that name a vid wait meanwhile, and those that had come in are answered: what is acknowledged to
   * a vid is in its point. All others go on.
   */
  async holdingVids<T>(names: readonly string[], action: () => Promise<T>): Promise<T> {
    const doors = this.#of(names).map(({ vidDoor }) => vidDoor);
    try {
      await Promise.all(doors.map((door) => door.close()));
      return await action();
    } finally {
      for (const door of doors) door.open();
    }
  }

  /** `close` is called when nothing is under way any more; then all volumes answer "closed". */
  async closeAll(close: () => Promise<void>): Promise<void> {
    const volumes = [...this.#volumes.values()];
    this.liftLimits();
    await Promise.all(volumes.map((volume) => volume.admission.close()));
    await close();
    for (const volume of volumes) {
      volume.retire(new KelpieError("closed", "the store is closed"));
      volume.admission.open();
    }
  }

  #of(names: readonly string[]): Volume[] {
    return names.flatMap((name) => this.#volumes.get(name) ?? []);
  }
}
