import { assert } from "../../base/assert.ts";
import { isPending } from "../../base/completion.ts";
import { KelpieError, messageOf } from "../../base/errors.ts";
import type { Files } from "../../host/files.ts";
import type { Log } from "../../host/log.ts";
import { unitBytes } from "../formats/batch.ts";
import type { LogUpload } from "../upload/log-upload.ts";
import type { AppendOperation, LogSink, LogWriterComponents, LogWriterSettings } from "./append.ts";
import { AppendQueue, type WaitingBatch } from "./append-queue.ts";
import { BatchTurns } from "./batch-turns.ts";
import { dueSegments } from "./due-segments.ts";
import { FlushWaiters } from "./flush-waiters.ts";
import { Holds } from "./holds.ts";
import { applyBatch, OpenSegment, type SegmentPlace } from "./open-segment.ts";
import { readBack } from "./read-back.ts";
import { SegmentFiles } from "./segment-files.ts";
import { SyncFailure, syncRepairsMax } from "./sync-failure.ts";

/**
 * Appends to one log: the numbered segments written during one opening of a disk. Operations that
 * arrive together leave in one write. One append is under way at a time, so that what a crash leaves
 * is always a prefix.
 */
export class LogWriter {
  readonly log: number;
  readonly #settings: LogWriterSettings;
  readonly #files: Files;
  readonly #logger: Log;
  readonly #sink: LogSink;
  readonly #turns: BatchTurns;
  readonly upload: LogUpload | undefined;
  readonly #segmentFiles: SegmentFiles;
  readonly #queue = new AppendQueue();
  /** The batch under way. */
  #appending: WaitingBatch | undefined;
  #pumping = false;
  #scheduled = false;
  readonly #holds = new Holds();
  #current: OpenSegment | undefined;
  #next: number;
  /** What the next segment continues. */
  #chain: SegmentPlace | undefined;
  /** Segments with something that is not synced, oldest first. */
  #unsynced: OpenSegment[] = [];
  #background = new Set<Promise<void>>();
  readonly #flushes = new FlushWaiters();
  #syncing: Promise<void> | undefined;
  /** Batches applied, and of those how many are known to be synced. */
  applied = 0;
  #synced = 0;
  #bytesSinceSync = 0;
  #syncedPlace = { segment: 0, units: 0 };
  /** Set when data could neither be synced nor read back: nothing more is accepted. */
  #failed: KelpieError | undefined;
  /** Closed, with everything synced. */
  #isClosed = false;
  syncs = 0;
  /** Asked for while something was not synced. */
  flushes = 0;
  appendedBytes = 0;
  /** Times that data was written again because a sync had failed. */
  repairs = 0;
  isRepairing = false;
  #mended: Promise<void> = Promise.resolve();

  constructor(settings: LogWriterSettings, components: LogWriterComponents) {
    this.log = settings.log;
    this.#settings = settings;
    this.#files = components.files;
    this.#logger = components.log;
    this.#sink = components.sink;
    this.#turns = new BatchTurns(components);
    this.upload = components.upload;
    this.#segmentFiles = new SegmentFiles(settings, components);
    this.#next = settings.first;
  }

  /** Up to where the maps have what this log holds, for a checkpoint. */
  get appliedPlace(): SegmentPlace {
    // A first segment that is being opened has a number already, and what it will hold counts.
    const nothing = { segment: this.#settings.first, units: 0, crc: 0 };
    return this.#endPlace ?? nothing;
  }

  /** One that is open and empty has not even its header, and a repair may give it up. */
  get #endPlace(): SegmentPlace | undefined {
    return this.#current?.isEmpty === false ? this.#current.place : this.#chain;
  }

  /** Completes when the operation is handed to the system and applied to the map. */
  append(operation: AppendOperation): Promise<void> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    const done = this.#queue.add(operation);
    this.#schedule();
    return done;
  }

  /** Completes when all operations that were queued before it are applied, or have failed. */
  drained(): Promise<void> {
    const last = this.#queue.last ?? this.#appending;
    if (last === undefined) return Promise.resolve();
    return last.done.catch(() => {}); // whose operation it was is told
  }

  /** Everything applied before the call is safe from power loss when it completes. */
  flush(): Promise<void> | undefined {
    // Closing has synced everything; a checkpoint may still ask.
    if (this.#isClosed) return undefined;
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    if (this.#synced >= this.applied) return undefined;
    this.flushes++;
    const done = this.#flushes.add(this.applied);
    this.#startSync();
    return done;
  }

  /** The same, where the store keeps its things: in an object store, after the disk of this machine. */
  settle(): Promise<void> | undefined {
    const flushed = this.flush();
    if (flushed === undefined) return this.upload?.flushTo(this.#syncedPlace);
    return flushed.then(() => this.upload?.flushTo(this.#syncedPlace));
  }

  /**
   * Stops appending; completes when no append is under way. Operations wait until `release`. Who is
   * going to cut waits for `mended` as well.
   */
  hold(): Promise<void> {
    return this.#holds.add(this.#pumping);
  }

  /**
   * While a failed sync is being mended, what completes when it is. What is written again must not be cut
   * in two: it belongs to one point.
   */
  get mended(): Promise<void> | undefined {
    return this.isRepairing ? this.#mended : undefined;
  }

  release(): void {
    this.#holds.release();
    if (!this.#queue.isEmpty) this.#schedule();
  }

  /** While held: ends the current segment. What comes from now on is in the returned one or later. */
  cut(): number {
    assert(this.#holds.isHeld && !this.#pumping && !this.isRepairing);
    this.#endCurrent();
    return this.#next;
  }

  /** Syncs, seals and closes. Nothing may be queued any more. */
  async close(): Promise<void> {
    await this.hold();
    try {
      await this.flush();
      while (this.mended !== undefined) await this.mended;
      this.#endCurrent();
      // A seal that is written may set off a sync, which must not meet the one below.
      while (this.#background.size > 0) await Promise.all(this.#background);
      await this.#syncSeals();
      this.#isClosed = this.#failed === undefined;
    } finally {
      await Promise.all(this.#background);
      this.#failed ??= new KelpieError("closed", `log ${this.log} is closed`);
      this.upload?.close();
    }
  }

  #schedule(): void {
    if (this.#scheduled || this.#pumping || this.#holds.isHeld) return;
    this.#scheduled = true;
    // Everything that arrives in the same turn shares one append.
    queueMicrotask(() => {
      this.#scheduled = false;
      void this.#pump();
    });
  }

  async #pump(): Promise<void> {
    if (this.#pumping || this.#holds.isHeld) return;
    this.#pumping = true;
    while (!this.#queue.isEmpty && !this.#holds.isHeld) {
      const turn = this.#turns.next();
      if (turn !== undefined) await turn;
      const batch = this.#queue.take();
      if (batch === undefined) break;
      this.#appending = batch;
      const { operations } = batch;
      try {
        // Not awaited when there is nothing to wait for: acknowledging in the same turn matters.
        for (let wait = this.#sink.prepare(operations); wait !== undefined; ) {
          await wait;
          wait = this.#sink.prepare(operations);
        }
        const done = this.#appendBatch(operations);
        if (isPending(done)) await done;
        batch.resolve();
      } catch (error) {
        batch.reject(error);
      }
    }
    this.#appending = undefined;
    this.#pumping = false;
    this.#holds.idle();
    if (!this.#queue.isEmpty) this.#schedule();
  }

  #appendBatch(operations: readonly AppendOperation[]): void | Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    const current = this.#current;
    const { segmentBytesMax } = this.#settings;
    if (current === undefined || current.isFull(operations, segmentBytesMax)) {
      return this.#appendToNew(operations);
    }
    if (this.upload?.isFull(current.segment.number)) return this.#appendToNew(operations);
    return this.#appendTo(current, operations);
  }

  async #appendToNew(operations: readonly AppendOperation[]): Promise<void> {
    this.#endCurrent();
    const room = this.upload?.room();
    if (room !== undefined) await room;
    const current = await this.#openNext();
    await this.#appendTo(current, operations);
  }

  #appendTo(open: OpenSegment, operations: readonly AppendOperation[]): void | Promise<void> {
    const batch = open.encode(operations, this.#syncedPlace);
    const finish = (): void | Promise<void> => {
      // What `apply` needs may have been dropped from memory while the write was under way.
      const wait = this.#sink.prepare(operations);
      if (wait !== undefined) return wait.then(finish);
      open.accept(batch);
      this.applied++;
      applyBatch(this.#sink, { open, batch, operations });
      this.#noteUnsynced(open, batch.bytes);
    };
    let written: void | Promise<void>;
    try {
      written = open.handle.write(batch.chunks, batch.offset);
    } catch (error) {
      return this.#appendFailed(open, error);
    }
    if (!isPending(written)) return finish();
    return written.then(finish, (error: unknown) => this.#appendFailed(open, error));
  }

  #noteUnsynced(open: OpenSegment, bytes: number): void {
    if (this.#unsynced.at(-1) !== open) this.#unsynced.push(open);
    if (open.firstBatch === 0) open.firstBatch = this.applied;
    this.#bytesSinceSync += bytes;
    this.appendedBytes += bytes;
    if (this.#bytesSinceSync >= this.#settings.syncBytes) this.#startSync();
  }

  /** Part of the batch may stand there: cut it off, and go on in a new segment. */
  async #appendFailed(open: OpenSegment, error: unknown): Promise<never> {
    this.#logger.error("append failed", { log: this.log, error: messageOf(error) });
    this.#current = undefined;
    if (open.isEmpty) {
      this.#sink.dropSegment(open.segment);
      await open.discard(this.#files);
      throw error;
    }
    this.#chain = open.place;
    try {
      await open.handle.truncate(open.units * unitBytes);
    } catch {
      // The next segment's header says where this one ends; the rest is void in any case.
    }
    this.#inBackground(this.#seal(open));
    throw error;
  }

  async #openNext(): Promise<OpenSegment> {
    await this.#segmentFiles.makeDirectory();
    const number = this.#next++;
    // It is known before its file is there: a file that is not known is nobody's.
    const segment = this.#sink.createSegment(this.log, number);
    try {
      const { handle, isReused } = await this.#segmentFiles.open(number);
      const { storeId } = this.#settings;
      const continues = this.#chain;
      this.#current = new OpenSegment(segment, handle, { storeId, continues, isReused });
      this.upload?.begun(number, continues);
      return this.#current;
    } catch (error) {
      this.#sink.dropSegment(segment);
      throw error;
    }
  }

  #endCurrent(): void {
    const open = this.#current;
    if (open === undefined) return;
    this.#current = undefined;
    this.#chain = open.place;
    this.#inBackground(this.#seal(open));
  }

  /** Only a help for recovery and cleaning: a segment without a seal is scanned. */
  async #seal(open: OpenSegment): Promise<void> {
    try {
      await open.seal();
    } catch (error) {
      this.#logger.warn("sealing failed", { log: this.log, error: messageOf(error) });
    }
    // Its last sync closes it. It keeps its place: segments are synced in order.
    if (!open.isGivenUp && !this.#unsynced.includes(open)) this.#unsynced.unshift(open);
    // It is not sent before it is safe here.
    if (this.upload !== undefined) this.#startSync();
  }

  /** Nothing more is done with the file, of which so much counts. */
  async #leave(open: OpenSegment, place: { units: number; bytes: number }): Promise<void> {
    await open.handle.close().catch(() => {}); // what counts of it is safe
    this.upload?.ended(open.segment.number, { endUnits: place.units, bytes: place.bytes });
  }

  #inBackground(work: Promise<void>): void {
    this.#background.add(work);
    void work.finally(() => this.#background.delete(work));
  }

  /**
   * Seals were written after the flush; they too shall be there after power loss. One that is not
   * costs a scan: all that it says stands in batches that are safe.
   */
  async #syncSeals(): Promise<void> {
    for (const open of [...this.#unsynced]) {
      try {
        await this.#syncSegment(open);
      } catch (error) {
        if (!open.isSynced) throw error;
        this.#logger.warn("a seal was not synced", { log: this.log, error: messageOf(error) });
        await this.#leave(open, { units: open.units, bytes: open.units * unitBytes });
      }
    }
    this.#unsynced = [];
  }

  #startSync(): void {
    if (this.#syncing !== undefined || this.#failed !== undefined) return;
    this.#syncing = this.#syncLoop().finally(() => {
      this.#syncing = undefined;
      if (!this.#flushes.isEmpty) this.#startSync();
    });
    this.#inBackground(this.#syncing);
  }

  async #syncLoop(): Promise<void> {
    do {
      const { applied } = this;
      const log = { awaited: this.#flushes.last, applied, end: this.#endPlace };
      const { segments, target, place } = dueSegments(this.#unsynced, log);
      if (target === applied) this.#bytesSinceSync = 0;
      try {
        // In order: no segment counts without the ones before it.
        for (const open of segments) await this.#syncSegment(open);
        this.#synced = Math.max(this.#synced, target);
        if (place !== undefined) this.#syncedPlace = { segment: place.segment, units: place.units };
      } catch (error) {
        await this.#repair(error);
      }
      // Whatever happened, nobody may wait for ever.
      this.#flushes.answer(this.#synced, this.#failed);
    } while (!this.#flushes.isEmpty && this.#failed === undefined);
  }

  async #syncSegment(open: OpenSegment): Promise<void> {
    const place = open.place;
    const ended = open.ended;
    this.syncs++;
    try {
      await open.handle.sync();
      if (!open.named) {
        // Durability: the file's name, without which its data is lost.
        await this.#segmentFiles.syncNames();
        open.named = true;
      }
    } catch (cause) {
      throw new SyncFailure(open, cause);
    }
    open.syncedPlace = place;
    const settled = ended || (open === this.#current && open.units === place.units);
    if (settled) this.#unsynced = this.#unsynced.filter((other) => other !== open);
    if (ended) await this.#leave(open, { units: open.units, bytes: open.segment.bytes });
  }

  /**
   * After a failed sync the kernel has dropped the pages and a retry would succeed without the data
   * ever having been written. So what is not known to be synced is read back, checked, and appended
   * to a new segment.
   */
  async #repair(error: unknown): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#mended = promise;
    this.isRepairing = true;
    await this.hold();
    this.repairs++;
    try {
      if (!(error instanceof SyncFailure)) throw error;
      this.#logger.error("sync failed; writing the data again", {
        log: this.log,
        segment: error.open.segment.number,
        error: messageOf(error.cause),
      });
      this.#sink.giveUpCutsAfter(error.open.segment.number);
      for (let attempt = 1; ; attempt++) {
        try {
          await this.#rewriteUnsynced();
          return;
        } catch (again) {
          if (!(again instanceof SyncFailure) || attempt === syncRepairsMax) throw again;
        }
      }
    } catch (cause) {
      this.#failed = new KelpieError("io", "the disk's data could not be made durable", {
        cause,
        remedy: "The disk is read-only until it is reopened; look at the host's disk first.",
      });
      this.#logger.error("log failed", { log: this.log, error: messageOf(cause) });
    } finally {
      this.isRepairing = false;
      this.release();
      resolve();
    }
  }

  async #syncRewritten(open: OpenSegment): Promise<void> {
    this.syncs++;
    try {
      await open.handle.sync();
      await this.#segmentFiles.syncNames();
    } catch (cause) {
      throw new SyncFailure(open, cause);
    }
  }

  async #rewriteUnsynced(): Promise<void> {
    // Of some only the seal is not synced: what they hold is safe, and so is all before the rest.
    const start = this.#unsynced.findIndex((open) => !open.isSynced);
    const old = start < 0 ? [] : this.#unsynced.slice(start);
    this.#unsynced = this.#unsynced.filter((open) => !old.includes(open) && !open.ended);
    const first = old[0];
    if (first === undefined) {
      this.#synced = this.applied;
      this.#syncedPlace = this.#endPlace ?? this.#syncedPlace;
      return;
    }
    const batches: AppendOperation[][] = [];
    for (const open of old) batches.push(...(await readBack(open)));
    this.#current = undefined;
    this.#chain = first.syncedPlace;
    if (this.#chain.units === 0) this.#chain = first.continues;
    const open = await this.#openNext();
    const apply: (() => void)[] = [];
    const target = this.applied;
    try {
      for (const operations of batches) {
        const batch = open.encode(operations, this.#syncedPlace, "without segment header");
        await open.handle.write(batch.chunks, batch.offset);
        open.accept(batch);
        apply.push(() => applyBatch(this.#sink, { open, batch, operations }));
      }
      // Only when all of it stands there may it count instead of what it repeats: the process may die
      // at any time, and what was answered must be found.
      await open.writeHeader();
      await this.#syncRewritten(open);
    } catch (error) {
      this.#current = undefined;
      this.#unsynced = old;
      // Nothing in it counts, whatever of it can be found.
      this.#sink.dropSegment(open.segment);
      await open.handle.close().catch(() => {}); // it is not used again
      throw error;
    }
    open.named = true;
    open.syncedPlace = open.place;
    const all = batches.flat();
    for (let wait = this.#sink.prepare(all); wait !== undefined; wait = this.#sink.prepare(all)) {
      await wait;
    }
    // All at once: nobody sees an older state in between.
    for (const step of apply) step();
    this.#synced = target;
    this.#syncedPlace = { segment: open.segment.number, units: open.units };
    for (const gone of old) {
      gone.isGivenUp = true;
      gone.segment.endUnits = Math.max(1, gone.syncedPlace.units);
      const { units } = gone.syncedPlace;
      if (units > 1) await this.#leave(gone, { units, bytes: units * unitBytes });
      else await gone.handle.close().catch(() => {}); // what it holds stands elsewhere
    }
    // Its seal may have been written meanwhile.
    this.#unsynced = this.#unsynced.filter((open) => !open.isGivenUp);
  }
}
