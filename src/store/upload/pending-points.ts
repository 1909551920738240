import type { LogUpload } from "./log-upload.ts";

/** A place in a log that must be in the object store. */
interface Wanted {
  upload: LogUpload;
  place: { segment: number; units: number };
}

/**
 * Snapshots whose data is not in the object store yet, because their disks are flushed to the disk of
 * this machine only. Their records are there already.
 */
export class PendingPoints {
  readonly #wanted = new Map<number, Wanted>();
  #afterStart: { points: ReadonlySet<number>; settled: Promise<void> } | undefined;

  /** What was frozen shortly before this process began is there when all it found here is. */
  awaitStart(points: Iterable<number>, settled: Promise<void>): void {
    this.#afterStart = { points: new Set(points), settled };
    settled.then(
      () => {
        this.#afterStart = undefined;
      },
      () => {}, // they stay pending, and whoever waits for them is told
    );
  }

  add(point: number, wanted: Wanted): void {
    this.#wanted.set(point, wanted);
  }

  has(point: number): boolean {
    if (this.#afterStart?.points.has(point)) return true;
    const wanted = this.#wanted.get(point);
    if (wanted === undefined) return false;
    if (!wanted.upload.hasReached(wanted.place)) return true;
    this.#wanted.delete(point);
    return false;
  }

  /** To be waited for by what shall stand on these points: a record must not lead to nothing. */
  basesArrived(points: readonly number[]): Promise<void> | undefined {
    const pending = points.filter((point) => this.has(point));
    if (pending.length === 0) return undefined;
    return Promise.all(pending.map((point) => this.arrived(point))).then(() => {});
  }

  /** Completes when the point is in the object store. */
  async arrived(point: number): Promise<void> {
    if (this.#afterStart?.points.has(point)) await this.#afterStart.settled;
    const wanted = this.#wanted.get(point);
    if (wanted !== undefined) await wanted.upload.flushTo(wanted.place);
    this.#wanted.delete(point);
  }
}
