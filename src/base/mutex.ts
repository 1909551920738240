/** One at a time, in the order of asking. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#last.then(action);
    this.#last = result.catch(() => {});
    return result;
  }
}

/** Holds all of them while `action` runs. Callers must name them in one order. */
export function runHolding<T>(mutexes: readonly Mutex[], action: () => Promise<T>): Promise<T> {
  const [first, ...rest] = mutexes;
  if (first === undefined) return action();
  return first.run(() => runHolding(rest, action));
}
