import { assert } from "../../base/assert.ts";

/** Who holds something still, and waits until it is. */
export class Holds {
  #count = 0;
  #waiters: (() => void)[] = [];

  get isHeld(): boolean {
    return this.#count > 0;
  }

  /** Completes when it is idle, which it is at once if it is not busy. */
  add(isBusy: boolean): Promise<void> {
    this.#count++;
    if (!isBusy) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
    });
  }

  release(): void {
    assert(this.#count > 0);
    this.#count--;
  }

  idle(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}
