import type { Timer, Timers } from "../../src/host/timers.ts";

/** Time that passes when told. */
export class ManualTimers implements Timers {
  readonly #waiting: { atMs: number; action: () => void }[] = [];
  #nowMs = 0;

  /** Timers that are set. */
  get pending(): number {
    return this.#waiting.length;
  }

  after(delayMs: number, action: () => void): Timer {
    const entry = { atMs: this.#nowMs + delayMs, action };
    this.#waiting.push(entry);
    return {
      cancel: () => {
        const index = this.#waiting.indexOf(entry);
        if (index >= 0) this.#waiting.splice(index, 1);
      },
    };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }

  /** No time passes until then. */
  soon(action: () => void): void {
    setImmediate(action);
  }

  advance(byMs: number): void {
    this.#nowMs += byMs;
    for (const entry of [...this.#waiting]) {
      const index = this.#waiting.indexOf(entry);
      if (entry.atMs > this.#nowMs || index < 0) continue;
      this.#waiting.splice(index, 1);
      entry.action();
    }
  }
}
