import { Mutex, runHolding } from "../base/mutex.ts";

/** Operations on one name come one after the other; those on other names go on beside them. */
export class NameLocks {
  readonly #mutexes = new Map<string, { mutex: Mutex; users: number }>();

  async run<T>(names: readonly string[], action: () => Promise<T>): Promise<T> {
    // In one order everywhere, so that nobody waits for ever.
    const sorted = [...new Set(names)].sort();
    const entries = sorted.map((name) => {
      const entry = this.#mutexes.get(name) ?? { mutex: new Mutex(), users: 0 };
      this.#mutexes.set(name, entry);
      entry.users++;
      return entry;
    });
    try {
      return await runHolding(
        entries.map((entry) => entry.mutex),
        action,
      );
    } finally {
      for (const [index, name] of sorted.entries()) {
        const entry = entries[index];
        if (entry !== undefined && --entry.users === 0) this.#mutexes.delete(name);
      }
    }
  }
}
