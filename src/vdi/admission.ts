import { type Completion, isPending } from "../base/completion.ts";

/**
 * The door of a volume. While it is shut requests wait in front of it; `drained` says when those that had
 * come in are answered. So a rollback falls between two requests, never into one.
 */
export class Admission {
  #inside = 0;
  #shut: Promise<void> | undefined;
  #open: (() => void) | undefined;
  #drained: (() => void) | undefined;

  run<T>(request: () => Completion<T>): Completion<T> {
    if (this.#shut !== undefined) return this.#shut.then(() => this.run(request));
    const done = request();
    if (!isPending(done)) return done;
    this.#inside++;
    return done.finally(() => {
      this.#inside--;
      if (this.#inside === 0) this.#drained?.();
    });
  }

  /** Shuts the door; completes when nobody is inside. */
  close(): Promise<void> {
    this.#shut ??= new Promise((resolve) => {
      this.#open = resolve;
    });
    if (this.#inside === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  open(): void {
    this.#drained = undefined;
    this.#shut = undefined;
    this.#open?.();
    this.#open = undefined;
  }
}
