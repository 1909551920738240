import { assert } from "../../base/assert.ts";
import type { Timer, Timers } from "../timers.ts";

export function createNodeTimers(): Timers {
  return {
    after: (delayMs, action) => new NodeTimer(delayMs, action, { keepsAlive: false }),
    sleep: (delayMs) =>
      new Promise((resolve) => {
        new NodeTimer(delayMs, resolve, { keepsAlive: true });
      }),
    soon: (action) => {
      setImmediate(action);
    },
  };
}

/** setTimeout counts in 32 bits and fires at once above them; a longer delay is made of several. */
const stepMsMax = 2 ** 31 - 1;

class NodeTimer implements Timer {
  readonly #action: () => void;
  readonly #keepsAlive: boolean;
  #handle: NodeJS.Timeout | undefined;

  constructor(delayMs: number, action: () => void, options: { keepsAlive: boolean }) {
    assert(delayMs >= 0 && Number.isFinite(delayMs), "a delay is a finite number of milliseconds");
    this.#action = action;
    this.#keepsAlive = options.keepsAlive;
    this.#arm(delayMs);
  }

  cancel(): void {
    clearTimeout(this.#handle);
    this.#handle = undefined;
  }

  #arm(delayMs: number): void {
    const stepMs = Math.min(delayMs, stepMsMax);
    this.#handle = setTimeout(() => {
      if (delayMs > stepMs) this.#arm(delayMs - stepMs);
      else this.#action();
    }, stepMs);
    if (!this.#keepsAlive) this.#handle.unref();
  }
}
