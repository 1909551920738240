/**
 * Lets operations run side by side, and now and then something that must see none of them under way. It
 * does not wait long: while it waits no new operation begins.
 */
export class StillGate {
  #running = 0;
  #waitingForStill: (() => void)[] = [];
  #waitingToBegin: (() => void)[] = [];

  async during<T>(operation: () => Promise<T>): Promise<T> {
    while (this.#waitingForStill.length > 0) {
      await new Promise<void>((resolve) => this.#waitingToBegin.push(resolve));
    }
    this.#running++;
    try {
      return await operation();
    } finally {
      this.#running--;
      this.#next();
    }
  }

  /** Runs `action`, which must be synchronous, while no operation is under way. */
  whenStill<T>(action: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waitingForStill.push(() => {
        try {
          resolve(action());
        } catch (error) {
          reject(error);
        }
      });
      this.#next();
    });
  }

  #next(): void {
    if (this.#running > 0) return;
    const actions = this.#waitingForStill;
    this.#waitingForStill = [];
    for (const action of actions) action();
    const begin = this.#waitingToBegin;
    this.#waitingToBegin = [];
    for (const resolve of begin) resolve();
  }
}
