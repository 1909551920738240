import { messageOf } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Timer } from "../host/timers.ts";
import type { Backend } from "./backend/backend.ts";
import { beingMended } from "./branch.ts";
import type { Catalog } from "./catalog.ts";
import type { Checkpointer } from "./checkpointer.ts";
import type { Cleaner } from "./cleaner.ts";
import type { SpareFiles } from "./log/spare-files.ts";
import { cleanMaps } from "./map/map-cleaner.ts";
import type { Purger } from "./purge.ts";
import type { SpaceGuard } from "./space-guard.ts";
import type { StoreState } from "./state.ts";
import { strangers } from "./strangers.ts";
import type { Uploads } from "./upload/uploads.ts";

export interface MaintenanceSettings {
  /** A checkpoint is written when this much of maps has changed … */
  dirtyBytesMax: number;
  /** Writers wait for the checkpoint when this much has changed and is not stored. */
  dirtyBytesLimit: number;
  /** … or this much was appended, or this many records, since the last one. */
  appendedBytesMax: number;
  recordsMax: number;
  /** Used space may exceed live blocks by this factor, and this much, before cleaning begins … */
  usedFactor: number;
  /**
   * … and by this one while guests write and space is plentiful: the longer a segment is left alone, the
   * less of it is still alive, and has to be copied.
   */
  usedFactorBusy: number;
  slackBytes: number;
  intervalMs: number;
}

export const defaultMaintenance: MaintenanceSettings = {
  dirtyBytesMax: 96 * 2 ** 20,
  dirtyBytesLimit: 224 * 2 ** 20,
  appendedBytesMax: 2 ** 29,
  recordsMax: 1000,
  usedFactor: 1.25,
  usedFactorBusy: 2,
  slackBytes: 64 * 2 ** 20,
  intervalMs: 250,
};

export interface MaintenanceComponents {
  state: StoreState;
  catalog: Catalog;
  checkpointer: Checkpointer;
  cleaner: Cleaner;
  purger: Purger;
  backend: Backend;
  space: SpaceGuard;
  spares: SpareFiles;
  uploads?: Uploads | undefined;
  host: Host;
}

export interface CleanProgress {
  progress?: ((progress: { doneBytes: number; totalBytes: number }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Map objects may grow to this many times what was needed when they were last looked at. */
const mapGrowthMax = 2;
const mapSlackBytes = 16 * 2 ** 20;
/** Guests that wrote so recently may write again at once. */
const busyForMs = 1000;
/** Spare files are given back after nothing was written for so long. */
const keepSparesMs = 10_000;
/** After a step failed (a full or broken disk), before it is tried again. */
const pauseAfterFailureMs = 5000;

/**
 * What goes on in the background, one step at a time: purging deleted points, checkpoints, cleaning. No
 * request waits for it.
 */
export class Maintenance {
  readonly #settings: MaintenanceSettings;
  readonly #components: MaintenanceComponents;
  #timer: Timer | undefined;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;
  #recordsAtCheckpoint: number;
  #bytesAtCheckpoint = 0;
  #purgedAtCheckpoint = 0;
  #mapLiveBytes = 0;
  #notBeforeMs = 0;
  #relief: Promise<void> | undefined;
  #afterCrash = false;
  /** What had been appended when it was last looked at, and when that had changed. */
  #bytesAtLook = 0;
  #lastAppendMs = 0;

  constructor(settings: MaintenanceSettings, components: MaintenanceComponents) {
    this.#settings = settings;
    this.#components = components;
    this.#recordsAtCheckpoint = components.catalog.last;
    this.#bytesAtCheckpoint = this.#appendedBytes();
  }

  start(): void {
    if (this.#stopped) return;
    this.#timer = this.#components.host.timers.after(this.#settings.intervalMs, () => {
      void this.exclusively(() => this.#background()).then(() => this.start());
    });
  }

  /** What had to be replayed shall not have to be again, and what a crash left over goes. */
  recoverSoon(): void {
    this.#afterCrash = true;
  }

  /** Lets the step under way finish, and begins no other. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  /**
   * Asked by writers: begins a checkpoint when much of maps has changed, and makes them wait for it when
   * memory would otherwise grow without bound.
   */
  relieve(): Promise<void> | undefined {
    const { dirtyBytes, storingBytes } = this.#components.state.nodes;
    if (dirtyBytes < this.#settings.dirtyBytesMax) return undefined;
    this.#relief ??= this.exclusively(() => this.#relieve()).finally(() => {
      this.#relief = undefined;
    });
    return dirtyBytes + storingBytes < this.#settings.dirtyBytesLimit ? undefined : this.#relief;
  }

  async #relieve(): Promise<void> {
    const { host } = this.#components;
    const pauseMs = this.#notBeforeMs - host.clock.monotonicMs();
    if (pauseMs > 0) await host.timers.sleep(pauseMs);
    try {
      if (!this.#stopped) await this.#checkpoint();
    } catch (error) {
      host.log.error("checkpoint failed", { error: messageOf(error) });
      this.#notBeforeMs = host.clock.monotonicMs() + pauseAfterFailureMs;
    }
  }

  checkpoint(): Promise<void> {
    return this.exclusively(() => this.#checkpoint());
  }

  /** Purges, checkpoints and cleans until nothing is left that is worth it. Says what it freed. */
  clean(options: CleanProgress = {}): Promise<number> {
    return this.exclusively(async () => {
      const before = this.#usedBytes();
      await this.#purgeAll();
      await this.#checkpoint();
      await this.#cleanSegments(() => true, options);
      await this.#cleanMaps(true);
      await this.#sweep();
      await this.#checkpoint();
      return Math.max(0, before - this.#usedBytes());
    });
  }

  /**
   * Runs `action` alone, when what has been deleted is purged: the space of it may have been given back
   * before a crash, and what stood there is no damage.
   */
  afterPurge<T>(action: () => Promise<T>): Promise<T> {
    return this.exclusively(async () => {
      try {
        await this.#purgeAll();
      } catch (error) {
        // A map that cannot be read is damage, which `action` is there to find.
        this.#components.host.log.error("purging failed", { error: messageOf(error) });
      }
      return action();
    });
  }

  /** One thing at a time; a failure is the caller's to see, and does not stop the next. */
  exclusively<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#running.then(action);
    this.#running = result.then(
      () => {},
      () => {},
    );
    return result;
  }

  async #background(): Promise<void> {
    const { host, space, state, uploads } = this.#components;
    if (this.#stopped || host.clock.monotonicMs() < this.#notBeforeMs) return;
    try {
      uploads?.trickle(state.logs.values());
      await space.check();
      await this.#purgeAll();
      if (this.#checkpointIsDue()) {
        if (space.isFull) await this.#endSegments();
        await this.#checkpoint();
      }
      await this.#cleanSegments(() => this.#cleaningIsDue(), {});
      await this.#cleanMaps(false);
      await this.#removeSpares();
      if (this.#afterCrash) await this.#sweep();
      this.#afterCrash = false;
    } catch (error) {
      host.log.error("maintenance failed", { error: messageOf(error) });
      this.#notBeforeMs = host.clock.monotonicMs() + pauseAfterFailureMs;
    }
  }

  /** They are for a store that is written to, and must not stand in the way when space is short. */
  async #removeSpares(): Promise<void> {
    const { space, spares } = this.#components;
    if (this.#isIdle(keepSparesMs) || space.isFull) await spares.removeAll();
  }

  /** Whether guests have written nothing for so long. */
  #isIdle(forMs: number): boolean {
    const nowMs = this.#components.host.clock.monotonicMs();
    const bytes = this.#appendedBytes();
    if (bytes !== this.#bytesAtLook) {
      this.#bytesAtLook = bytes;
      this.#lastAppendMs = nowMs;
    }
    return nowMs - this.#lastAppendMs >= forMs;
  }

  async #purgeAll(): Promise<void> {
    const { purger } = this.#components;
    for (let point = purger.next(); point !== undefined; point = purger.next()) {
      await purger.purge(point);
      if (this.#stopped) return;
    }
    await purger.settled();
  }

  #checkpointIsDue(): boolean {
    const { state, catalog, purger, space } = this.#components;
    const { dirtyBytesMax, appendedBytesMax, recordsMax } = this.#settings;
    // What was purged returns its space only after a checkpoint.
    const hasFreed = purger.purged > this.#purgedAtCheckpoint;
    return (
      this.#afterCrash ||
      state.nodes.dirtyBytes >= dirtyBytesMax ||
      this.#appendedBytes() - this.#bytesAtCheckpoint >= appendedBytesMax ||
      catalog.last - this.#recordsAtCheckpoint >= recordsMax ||
      (hasFreed && this.#cleaningIsDue()) ||
      // What was overwritten or trimmed since the last one can be cleaned only after the next.
      (space.isFull && (hasFreed || this.#appendedBytes() !== this.#bytesAtCheckpoint))
    );
  }

  /** Dead blocks of segments that are still appended to cannot be had back. */
  async #endSegments(): Promise<void> {
    for (const { writer } of this.#components.state.logs.values()) {
      if (writer === undefined) continue;
      await writer.hold();
      for (let wait = beingMended([writer]); wait !== undefined; wait = writer.mended) await wait;
      writer.cut();
      writer.release();
    }
  }

  async #checkpoint(): Promise<void> {
    const { catalog, checkpointer, purger, uploads } = this.#components;
    await uploads?.mustBeOwner();
    const [records, bytes, purged] = [catalog.last, this.#appendedBytes(), purger.purged];
    await checkpointer.write();
    this.#recordsAtCheckpoint = records;
    this.#bytesAtCheckpoint = bytes;
    this.#purgedAtCheckpoint = purged;
  }

  #cleaningIsDue(): boolean {
    const { cleaner, space } = this.#components;
    const { usedBytes, liveBytes } = cleaner.totals();
    if (space.isFull) return true;
    const { usedFactor, usedFactorBusy, slackBytes } = this.#settings;
    // As much again as there is now must still have room.
    const mayWait = !this.#isIdle(busyForMs) && space.freeBytes > usedBytes;
    return usedBytes > liveBytes * (mayWait ? usedFactorBusy : usedFactor) + slackBytes;
  }

  async #cleanSegments(isDue: () => boolean, options: CleanProgress): Promise<void> {
    const { cleaner, uploads } = this.#components;
    const { usedBytes, liveBytes } = cleaner.totals();
    for (const segment of [...cleaner.dead()]) {
      if (this.#stopped) return;
      await uploads?.mustBeOwner();
      await cleaner.clean(segment);
    }
    let done = 0;
    while (!this.#stopped && options.signal?.aborted !== true && isDue()) {
      const segment = cleaner.next();
      if (segment === undefined) return;
      const before = segment.bytes;
      await uploads?.mustBeOwner();
      await cleaner.clean(segment);
      done += before - segment.bytes;
      options.progress?.({ doneBytes: done, totalBytes: Math.max(done, usedBytes - liveBytes) });
    }
  }

  async #cleanMaps(always: boolean): Promise<void> {
    const { state, checkpointer, backend } = this.#components;
    const limit = this.#mapLiveBytes * mapGrowthMax + mapSlackBytes;
    if (checkpointer.roots === undefined || this.#stopped) return;
    if (!always && state.mapObjects.totalBytes <= limit) return;
    const { mapObjects } = state;
    await this.#components.uploads?.mustBeOwner();
    const { liveBytes } = await cleanMaps(checkpointer.roots, { backend, mapObjects });
    this.#mapLiveBytes = liveBytes;
  }

  async #sweep(): Promise<void> {
    const { backend, state, uploads } = this.#components;
    for (const key of await strangers({ backend, state })) await backend.delete(key);
    await uploads?.sweep(state);
  }

  #usedBytes(): number {
    const { cleaner, state } = this.#components;
    return cleaner.totals().usedBytes + state.mapObjects.totalBytes;
  }

  #appendedBytes(): number {
    let bytes = 0;
    for (const log of this.#components.state.logs.values()) bytes += log.writer?.appendedBytes ?? 0;
    return bytes;
  }
}
