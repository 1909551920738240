// biome-ignore lint/style/noRestrictedImports: turns of the loop are still the real ones; time is not.
import { setImmediate } from "node:timers";
import { assert } from "../src/base/assert.ts";
import type { Clock } from "../src/host/clock.ts";
import type { Timer, Timers } from "../src/host/timers.ts";

/** An arbitrary moment, 2026-01-01T00:00:00Z, so that times in output are the same in every run. */
const startMs = 1_767_225_600_000;

interface Waiting {
  atMs: number;
  /** Timers of one moment fire in the order in which they were set. */
  order: number;
  action: () => void;
}

/** A clock that stands still until it is advanced, and the timers that go by it. */
export class VirtualTime implements Clock, Timers {
  #elapsedMs = 0;
  #timersSet = 0;
  readonly #waiting = new Set<Waiting>();

  nowMs(): number {
    return startMs + this.#elapsedMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  after(delayMs: number, action: () => void): Timer {
    assert(delayMs >= 0 && Number.isFinite(delayMs), "a delay is a finite number of milliseconds");
    this.#timersSet += 1;
    const waiting = { atMs: this.#elapsedMs + delayMs, order: this.#timersSet, action };
    this.#waiting.add(waiting);
    return { cancel: () => void this.#waiting.delete(waiting) };
  }

  /** Of 0: until a later turn of the loop, without advancing the clock. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      if (delayMs === 0) this.soon(resolve);
      else this.after(delayMs, resolve);
    });
  }

  soon(action: () => void): void {
    setImmediate(action);
  }

  /**
   * Moves the clock on, firing what falls due on the way; what that sets off runs before the next.
   */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.#elapsedMs + durationMs;
    for (;;) {
      const next = this.#earliest();
      if (next === undefined || next.atMs > endMs) break;
      this.#waiting.delete(next);
      this.#elapsedMs = Math.max(this.#elapsedMs, next.atMs);
      next.action();
      await this.sleep(0);
    }
    this.#elapsedMs = endMs;
  }

  #earliest(): Waiting | undefined {
    let earliest: Waiting | undefined;
    for (const waiting of this.#waiting) {
      if (earliest === undefined || isBefore(waiting, earliest)) earliest = waiting;
    }
    return earliest;
  }
}

function isBefore(one: Waiting, other: Waiting): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}
