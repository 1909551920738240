interface Waiter {
  target: number;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** Flushes that wait until so many batches are synced. */
export class FlushWaiters {
  #waiters: Waiter[] = [];

  get isEmpty(): boolean {
    return this.#waiters.length === 0;
  }

  /** The most that one of them waits for: they came in that order. */
  get last(): number | undefined {
    return this.#waiters.at(-1)?.target;
  }

  add(target: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ target, resolve, reject });
    });
  }

  /** Answers those that `synced` batches are enough for; all, with the failure, if there is one. */
  answer(synced: number, failure: unknown): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) {
      // Durability: a flush is answered here, after every sync that it needs has returned.
      if (failure !== undefined) waiter.reject(failure);
      else if (waiter.target <= synced) waiter.resolve();
      else this.#waiters.push(waiter);
    }
  }
}
