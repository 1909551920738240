import type { Timers } from "../../host/timers.ts";

/** About a millisecond of comparing numbers. */
const stepsPerTurn = 2 ** 15;

/**
 * Lets others have their turn of the event loop during work that waits for nothing: what awaits only results
 * that are there already keeps timers and sockets waiting to its end. All who share one share the turn.
 */
export class Turns {
  readonly #timers: Timers;
  #steps = 0;
  #next: Promise<void> | undefined;

  constructor(components: { timers: Timers }) {
    this.#timers = components.timers;
  }

  /** Counts work that was done, in comparisons of numbers. */
  spend(steps: number): void {
    this.#steps += steps;
  }

  /** A promise when others are due: to be waited for before doing more. */
  due(): Promise<void> | undefined {
    if (this.#steps < stepsPerTurn) return undefined;
    this.#next ??= new Promise((resolve) => {
      this.#timers.soon(() => {
        this.#steps = 0;
        this.#next = undefined;
        resolve();
      });
    });
    return this.#next;
  }
}
