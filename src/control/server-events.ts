import type { ChangeEvent, ServerEvent } from "./server-shapes.ts";

/** Changes that are kept for those who come later, or come back. */
export const changesMax = 500;

/** What a server tells those that listen, and the newest changes. */
export class ServerEvents {
  readonly #listeners = new Set<(event: ServerEvent) => void>();
  readonly #changes: ChangeEvent[] = [];
  #number = 0;

  /** Listeners must not fail. Returns what ends it. */
  listen(listener: (event: ServerEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  emit(event: ServerEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  change(change: Omit<ChangeEvent, "kind" | "number">): void {
    const event: ChangeEvent = { kind: "change", number: ++this.#number, ...change };
    this.#changes.push(event);
    if (this.#changes.length > changesMax) this.#changes.shift();
    this.emit(event);
  }

  /** The newest, oldest first; those after `number` if it is given. */
  changes(after = 0): ChangeEvent[] {
    return this.#changes.filter(({ number }) => number > after);
  }
}
