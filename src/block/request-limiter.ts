import { assert } from "../base/assert.ts";
import type { Clock } from "../host/clock.ts";
import type { Timer, Timers } from "../host/timers.ts";

/** What a disk may be asked for. At least one of the two rates. */
export interface RateLimits {
  opsPerSecond?: number | undefined;
  bytesPerSecond?: number | undefined;
  /** How long a disk that is not used saves up for: so much of a second's worth may go at once. */
  burstMs: number;
}

/** As long as a guest's own scheduler takes to gather requests; a rate over a second stays what it is. */
export const burstMsDefault = 100;

/**
 * Lets requests through at a rate, in the order in which they came. A token bucket for requests and one for
 * their bytes: a request goes when both have something in them, and takes what it takes, so that one larger
 * than a bucket goes too, and what comes after it waits the longer.
 */
export class RequestLimiter {
  readonly #clock: Clock;
  readonly #timers: Timers;
  #limits: RateLimits | undefined;
  /** What may go now; below zero after a large request. */
  #ops = 0;
  #bytes = 0;
  #filledMs = 0;
  #waiting: { bytes: number; go: () => void }[] = [];
  #timer: Timer | undefined;

  constructor(components: { clock: Clock; timers: Timers }) {
    this.#clock = components.clock;
    this.#timers = components.timers;
  }

  /** Requests that wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  get limits(): RateLimits | undefined {
    return this.#limits;
  }

  /** From now on, also for those that wait; none lets all of them go. */
  set(limits: RateLimits | undefined): void {
    this.#limits = limits;
    this.#ops = Number.POSITIVE_INFINITY;
    this.#bytes = Number.POSITIVE_INFINITY;
    this.#fill();
    this.#release();
  }

  /** Undefined if a request of so many bytes may go now, else a promise for when it may. */
  admit(bytes: number): Promise<void> | undefined {
    if (this.#limits === undefined) return undefined;
    if (this.#waiting.length === 0) {
      this.#fill();
      if (this.#mayGo()) {
        this.#take(bytes);
        return undefined;
      }
    }
    return new Promise((go) => {
      this.#waiting.push({ bytes, go });
      this.#arm();
    });
  }

  #mayGo(): boolean {
    return this.#ops > 0 && this.#bytes > 0;
  }

  #take(bytes: number): void {
    this.#ops -= 1;
    this.#bytes -= bytes;
  }

  #fill(): void {
    if (this.#limits === undefined) return;
    const { opsPerSecond = Number.POSITIVE_INFINITY, bytesPerSecond = Number.POSITIVE_INFINITY } =
      this.#limits;
    const nowMs = this.#clock.monotonicMs();
    const seconds = (nowMs - this.#filledMs) / 1000;
    const burst = this.#limits.burstMs / 1000;
    this.#filledMs = nowMs;
    this.#ops = filled(this.#ops, opsPerSecond, { seconds, burst });
    this.#bytes = filled(this.#bytes, bytesPerSecond, { seconds, burst });
  }

  #release(): void {
    let count = 0;
    const free = this.#limits === undefined;
    for (const { bytes, go } of this.#waiting) {
      if (!free) {
        if (!this.#mayGo()) break;
        this.#take(bytes);
      }
      count++;
      go();
    }
    this.#waiting.splice(0, count);
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#arm();
  }

  #arm(): void {
    if (this.#waiting.length === 0 || this.#timer !== undefined) return;
    assert(this.#limits !== undefined, "requests wait for a limit");
    const { opsPerSecond, bytesPerSecond } = this.#limits;
    const delayMs = Math.max(
      untilMs(this.#ops, opsPerSecond),
      untilMs(this.#bytes, bytesPerSecond),
    );
    this.#timer = this.#timers.after(delayMs, () => {
      this.#timer = undefined;
      this.#fill();
      this.#release();
    });
  }
}

function filled(level: number, rate: number, time: { seconds: number; burst: number }): number {
  if (rate === Number.POSITIVE_INFINITY) return rate;
  // Never so little that nothing could go.
  const most = Math.max(rate * time.burst, 1);
  return Math.min(level + rate * time.seconds, most);
}

/** When there is something again. */
function untilMs(level: number, rate: number | undefined): number {
  return rate === undefined || level > 0 ? 1 : Math.floor((-level / rate) * 1000) + 1;
}
