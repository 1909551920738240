import type { Timers } from "../../host/timers.ts";

/**
 * Batches appended in one turn of the event loop. Small appends complete at once, so a program that
 * writes in a loop would otherwise never let a sync, a timer or another client have its turn.
 */
const batchesPerTurnMax = 32;

/** Counts batches, and says when others must have their turn first. */
export class BatchTurns {
  readonly #timers: Timers;
  #batches = 0;

  constructor(components: { timers: Timers }) {
    this.#timers = components.timers;
  }

  /** To be waited for before the next batch, if there were enough in this turn. */
  next(): Promise<void> | undefined {
    if (this.#batches === 0) {
      this.#timers.soon(() => {
        this.#batches = 0;
      });
    }
    if (++this.#batches <= batchesPerTurnMax) return undefined;
    return new Promise((resolve) => this.#timers.soon(resolve));
  }
}
