import { isKelpieError, KelpieError, messageOf } from "../../base/errors.ts";
import { unitBytes } from "../formats/batch.ts";
import { segmentKey, tailKey } from "../keys.ts";
import type { UploadParts } from "./uploads.ts";

/** A place between two batches of a log. */
interface Place {
  segment: number;
  units: number;
}

/** A segment on its way. */
interface Entry {
  number: number;
  /** Where what counts of it ends; not known while it is written. */
  endUnits: number | undefined;
  isEnded: boolean;
  /** All of it is there, as one object. */
  isWhole: boolean;
  /** Completes when it is, or when it is known that nothing needs it. */
  whole: PromiseWithResolvers<void>;
  /** Up to where its tails have it, and how many they are. */
  tailUnits: number;
  tails: number;
}

interface Waiter {
  place: Place;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** Tails of one segment, before it should be ended: recovery reads them one by one. */
const tailsMax = 256;
/** Before an upload that failed for good is tried again. */
const pauseMs = 5_000;

/**
 * The way of one log to the object store. A segment that is ended goes as one object. Of one that is
 * still written, or waits for its turn, a flush sends what is new as a tail, the next of a numbered
 * sequence; they go when the segment is there as a whole.
 */
export class LogUpload {
  readonly log: number;
  readonly #parts: UploadParts;
  /** Nothing of this log may be there before it: what was written earlier to the same disks. */
  readonly #after: Promise<void>;
  readonly #entries: Entry[] = [];
  #waiters: Waiter[] = [];
  #running: Promise<void> | undefined;
  /** Of the newest that is known to be there, all before it too. */
  #reached: Place = { segment: 0, units: 0 };

  constructor(settings: { log: number; after: Promise<void> }, parts: UploadParts) {
    this.log = settings.log;
    this.#after = settings.after;
    this.#after.catch(() => {}); // who sends something is told
    this.#parts = parts;
  }

  /** A new segment continues the one before, which counts up to there and no further. */
  begun(number: number, continues: Place | undefined): void {
    while (this.#entries.length > 0) {
      const last = this.#entries.at(-1) as Entry;
      if (continues !== undefined && last.number <= continues.segment) {
        if (last.number === continues.segment) last.endUnits = continues.units;
        break;
      }
      // Nothing stands on it: what it held was written again.
      this.#entries.pop()?.whole.resolve();
    }
    const whole = Promise.withResolvers<void>();
    whole.promise.catch(() => {}); // who waits for it is told
    const none = { endUnits: undefined, isEnded: false, isWhole: false, tailUnits: 0, tails: 0 };
    this.#entries.push({ number, whole, ...none });
  }

  /** It is complete, and synced, in a file of so many bytes. */
  ended(number: number, file: { endUnits: number; bytes: number }): void {
    const entry = this.#entries.find((each) => each.number === number);
    if (entry === undefined || entry.isEnded) return;
    entry.endUnits = file.endUnits;
    entry.isEnded = true;
    this.#parts.pending(file.bytes);
    this.#sendWhole(entry, file.bytes).then(entry.whole.resolve, entry.whole.reject);
  }

  /** To be waited for before more is written, while too much waits for its upload. */
  room(): Promise<void> | undefined {
    return this.#parts.room();
  }

  /** Nothing more will come. What was not ended is of a log that failed, and said so. */
  close(): void {
    for (const { isEnded, whole } of this.#entries) if (!isEnded) whole.resolve();
    this.#parts.closed(this);
  }

  /** Worth ending, so that its tails become one object. */
  isFull(number: number): boolean {
    const entry = this.#entries.at(-1);
    return entry !== undefined && entry.number === number && entry.tails >= tailsMax;
  }

  /** Whether it is known that all up to `place` is there. */
  hasReached(place: Place): boolean {
    return !isLater(place, this.#reached);
  }

  /** Completes when all up to `place`, which is synced, is in the object store. */
  flushTo(place: Place): Promise<void> | undefined {
    if (!isLater(place, this.#reached)) return undefined;
    return new Promise((resolve, reject) => {
      this.#waiters.push({ place, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Completes when all segments below `number` are there as a whole; of a closed log all are. */
  async settled(number = Number.POSITIVE_INFINITY): Promise<void> {
    const wanted = this.#entries.filter((entry) => entry.number < number);
    await Promise.all(wanted.map(({ whole }) => whole.promise));
  }

  get isSettled(): boolean {
    return this.#entries.every((entry) => entry.isWhole);
  }

  async #run(): Promise<void> {
    try {
      await this.#after;
      while (this.#waiters.length > 0) {
        const target = this.#waiters.map(({ place }) => place).reduce(later);
        await this.#reach(target);
        this.#reached = target;
        const waiters = this.#waiters;
        this.#waiters = waiters.filter(({ place }) => isLater(place, target));
        // Durability: the object store has every number up to what was asked for.
        for (const { place, resolve } of waiters) if (!isLater(place, target)) resolve();
      }
    } catch (error) {
      const waiters = this.#waiters;
      this.#waiters = [];
      for (const { reject } of waiters) reject(error);
    } finally {
      // In the same turn: who was just answered may already ask again.
      this.#running = undefined;
    }
  }

  async #reach(target: Place): Promise<void> {
    for (const entry of [...this.#entries]) {
      if (entry.number > target.segment) return;
      const end = entry.number === target.segment ? target.units : entry.endUnits;
      if (end === undefined) throw new KelpieError("io", "a segment has no end");
      while (!entry.isWhole && entry.tailUnits < end) {
        try {
          await this.#sendTail(entry, end);
        } catch (error) {
          // Its file may go once all of it is there.
          if (!entry.isWhole) throw error;
        }
      }
    }
  }

  async #sendTail(entry: Entry, end: number): Promise<void> {
    const { backend } = this.#parts;
    const key = tailKey(this.log, entry.number, entry.tails);
    const range = { from: entry.tailUnits * unitBytes, to: end * unitBytes };
    const bytes = await this.#parts.read(segmentKey(this.log, entry.number), range);
    const outcome = await backend.putIfAbsent(key, [bytes]);
    let sent = bytes.length;
    if (outcome === "unknown") throw unknownOutcome(key);
    if (outcome === "exists") {
      // An earlier attempt of ours that was given up, and landed. It may be shorter.
      const there = await backend.get(key);
      sent = there.length;
      if (Buffer.compare(there, bytes.subarray(0, sent)) !== 0) throw writtenByOther(key);
    }
    entry.tails++;
    entry.tailUnits += sent / unitBytes;
    // All of it came to be there meanwhile, and the tails before this one were removed.
    if (entry.isWhole) await this.#removeTails([key]);
  }

  async #sendWhole(entry: Entry, bytes: number): Promise<void> {
    const key = segmentKey(this.log, entry.number);
    await this.#after;
    for (;;) {
      try {
        await this.#parts.limit(() => this.#putWhole(key, bytes));
        break;
      } catch (error) {
        if (this.#parts.isClosing || isKelpieError(error, "busy")) throw error;
        this.#parts.log.error("upload failed", { key, error: messageOf(error) });
        await this.#parts.timers.sleep(pauseMs);
      }
    }
    entry.isWhole = true;
    this.#parts.pending(-bytes);
    this.#parts.uploaded(key, bytes);
    const { tails, number } = entry;
    const keys = Array.from({ length: tails }, (_, at) => tailKey(this.log, number, at));
    if (tails > 0) await this.#removeTails(keys);
    while (this.#entries[0]?.isWhole) this.#entries.shift();
  }

  async #putWhole(key: string, bytes: number): Promise<void> {
    const { backend } = this.#parts;
    const content = await this.#parts.read(key, { from: 0, to: bytes });
    const outcome = await backend.putIfAbsent(key, [content]);
    if (outcome === "unknown") throw unknownOutcome(key);
    if (outcome === "created") return;
    // It may be of a process before this one, which died before it noted that.
    if (Buffer.compare(await backend.get(key), content) !== 0) throw writtenByOther(key);
  }

  /** What stays of them means nothing, and goes when the store is swept. */
  async #removeTails(keys: readonly string[]): Promise<void> {
    try {
      await this.#parts.backend.deleteAll(keys);
    } catch (error) {
      this.#parts.log.warn("tails were not removed", { error: messageOf(error) });
    }
  }
}

function isLater(place: Place, than: Place): boolean {
  return (
    place.segment > than.segment || (place.segment === than.segment && place.units > than.units)
  );
}

function later(one: Place, other: Place): Place {
  return isLater(one, other) ? one : other;
}

function unknownOutcome(key: string): KelpieError {
  return new KelpieError("io", `${key}: the object store did not say whether it was created`);
}

function writtenByOther(key: string): KelpieError {
  return new KelpieError("busy", `${key} was written by somebody else`, {
    remedy: "Another server writes this store. Stop one of them.",
  });
}
