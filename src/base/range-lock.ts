import { assert } from "./assert.ts";
import type { Completion } from "./completion.ts";

export type RangeLockMode = "exclusive" | "shared";

/** A range that is locked, or waits to be. Give it to `release` exactly once. */
export interface RangeHold {
  readonly start: number;
  readonly end: number;
}

/**
 * Locks half-open ranges [start, end) of integers. Fair: a request waits for every earlier one it
 * conflicts with, held or waiting, and for nothing else. Two shared ranges never conflict.
 *
 * Costs nothing when nothing is locked; otherwise each call walks the requests that are there, which
 * are bounded by what servers allow in flight.
 */
export class RangeLock {
  #first: Entry | undefined;
  #last: Entry | undefined;
  #count = 0;

  /** Ranges held or waited for. */
  get count(): number {
    return this.#count;
  }

  /** Completes at once when nothing is in the way. */
  acquire(start: number, end: number, mode: RangeLockMode = "exclusive"): Completion<RangeHold> {
    const entry = new Entry(start, end, mode === "shared");
    if (this.#first !== undefined) {
      for (let other: Entry | undefined = this.#first; other; other = other.next) {
        if (conflict(other, entry)) entry.blockers++;
      }
    }
    this.#append(entry);
    if (entry.blockers === 0) return entry;
    return new Promise((resolve) => {
      entry.grant = resolve;
    });
  }

  /** Takes the range if nothing is in the way, and never waits. */
  tryAcquire(start: number, end: number, mode: RangeLockMode = "exclusive"): RangeHold | undefined {
    const entry = new Entry(start, end, mode === "shared");
    for (let other = this.#first; other; other = other.next) {
      if (conflict(other, entry)) return undefined;
    }
    this.#append(entry);
    return entry;
  }

  release(hold: RangeHold): void {
    assert(hold instanceof Entry && hold.queued && hold.blockers === 0, "range is not held");
    this.#remove(hold);
    // Only later requests can have been waiting for this one.
    for (let other = hold.next; other; other = other.next) {
      if (!conflict(hold, other)) continue;
      other.blockers--;
      if (other.blockers === 0) other.grant?.(other);
    }
    hold.next = undefined;
  }

  #append(entry: Entry): void {
    assert(entry.start < entry.end, "an empty range cannot be locked");
    entry.previous = this.#last;
    if (this.#last === undefined) this.#first = entry;
    else this.#last.next = entry;
    this.#last = entry;
    entry.queued = true;
    this.#count++;
  }

  #remove(entry: Entry): void {
    if (entry.previous === undefined) this.#first = entry.next;
    else entry.previous.next = entry.next;
    if (entry.next === undefined) this.#last = entry.previous;
    else entry.next.previous = entry.previous;
    entry.previous = undefined;
    entry.queued = false;
    this.#count--;
  }
}

class Entry implements RangeHold {
  readonly start: number;
  readonly end: number;
  readonly shared: boolean;
  /** Earlier requests that must be released first. */
  blockers = 0;
  queued = false;
  grant: ((hold: RangeHold) => void) | undefined = undefined;
  previous: Entry | undefined = undefined;
  next: Entry | undefined = undefined;

  constructor(start: number, end: number, shared: boolean) {
    this.start = start;
    this.end = end;
    this.shared = shared;
  }
}

function conflict(left: Entry, right: Entry): boolean {
  return left.start < right.end && right.start < left.end && !(left.shared && right.shared);
}
