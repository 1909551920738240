import { messageOf } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Timer } from "../host/timers.ts";
import type { Store } from "../store/store.ts";
import type { Discarded, VdiRegistry } from "./registry.ts";

/** How long, and for how much space, discarded tips are kept. */
export interface KeepDiscarded {
  ageMs: number;
  /** Of what the store's file system holds, 0 to 1. */
  share: number;
}

export const defaultKeepDiscarded: KeepDiscarded = { ageMs: 60 * 60 * 1000, share: 0.1 };
const intervalMs = 1000;

/** Gives discarded tips up when they are too old or too much, the oldest first; at once in need. */
export class Retention {
  readonly keep: KeepDiscarded;
  readonly #components: {
    store: Store;
    registry: VdiRegistry;
    host: Host;
    purge: (points: readonly number[]) => Promise<unknown>;
  };
  #timer: Timer | undefined;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;
  readonly #spared = new Map<number, number>();

  constructor(
    settings: { keep: KeepDiscarded | undefined },
    components: {
      store: Store;
      registry: VdiRegistry;
      host: Host;
      purge: (points: readonly number[]) => Promise<unknown>;
    },
  ) {
    this.keep = settings.keep ?? defaultKeepDiscarded;
    this.#components = components;
  }

  start(): void {
    if (this.#stopped) return;
    this.#timer = this.#components.host.timers.after(intervalMs, () => {
      this.#running = this.#expire().then(() => this.start());
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  async #expire(): Promise<void> {
    const { purge, host } = this.#components;
    try {
      const due = this.due(host.clock.nowMs());
      if (due.length > 0) await purge(due);
    } catch (error) {
      host.log.error("purging discarded disks failed", { error: messageOf(error) });
    }
  }

  /** Keeps a discarded point for a while whatever the limits say: somebody may be about to need it. */
  spare(point: number, untilMs: number): void {
    this.#spared.set(point, untilMs);
  }

  /** Points to give up now. */
  due(nowMs: number): number[] {
    const { registry, store } = this.#components;
    for (const [point, untilMs] of this.#spared) if (untilMs <= nowMs) this.#spared.delete(point);
    if (registry.discarded.size === 0) return [];
    const oldest = [...registry.discarded.values()].sort(
      (a, b) => a.discardedMs - b.discardedMs || a.point - b.point,
    );
    let bytes = oldest.reduce((sum, entry) => sum + this.#bytesOf(entry), 0);
    const limit = store.space.isFull ? 0 : this.keep.share * this.#storeBytes();
    const due: number[] = [];
    for (const entry of oldest) {
      const isOld = nowMs - entry.discardedMs >= this.keep.ageMs;
      const isTooMuch = bytes > limit && this.#bytesOf(entry) > 0;
      if ((!isOld && !isTooMuch) || this.#spared.has(entry.point)) continue;
      due.push(entry.point);
      bytes -= this.#bytesOf(entry);
    }
    return due;
  }

  #bytesOf(entry: Discarded): number {
    const { store, registry } = this.#components;
    const extra = registry.objects.extras.get(entry.point);
    const beside = extra === undefined ? 0 : store.point(extra).exclusiveBlocks;
    return (store.point(entry.point).exclusiveBlocks + beside) * 4096;
  }

  #storeBytes(): number {
    const { store } = this.#components;
    return store.cleaner.totals().usedBytes + store.space.freeBytes;
  }
}
