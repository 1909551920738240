import { type Completion, isPending } from "../base/completion.ts";

/**
 * The door of a volume. While it is shut requests wait in front of it; `drained` says when those that had
 * come in are answered. So a rollback falls between two requests, never into one.
 */
export class Admission {
  /** What is waited for inside. Requests that one promise answers count once. */
  #inside = 0;
  #newest: Promise<unknown> | undefined;
  /** Who holds it shut: a rollback, and perhaps the closing of the store meanwhile. */
  #closers = 0;
  #shut: Promise<void> | undefined;
  #open: (() => void) | undefined;
  #drained: (() => void)[] = [];

  run<T>(request: () => Completion<T>): Completion<T> {
    if (this.#shut !== undefined) return this.#shut.then(() => this.run(request));
    const done = request();
    if (!isPending(done) || done === this.#newest) return done;
    this.#newest = done;
    this.#inside++;
    const leave = () => this.#leave(done);
    // Beside the caller's own wait, not before it: a failure is the caller's to see.
    done.then(leave, leave);
    return done;
  }

  #leave(done: Promise<unknown>): void {
    if (this.#newest === done) this.#newest = undefined;
    this.#inside--;
    if (this.#inside > 0) return;
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  /** Shuts the door; completes when nobody is inside. Each is followed by one `open`. */
  close(): Promise<void> {
    this.#closers++;
    this.#shut ??= new Promise((resolve) => {
      this.#open = resolve;
    });
    if (this.#inside === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained.push(resolve);
    });
  }

  /** It opens when the last who shut it says so. */
  open(): void {
    if (--this.#closers > 0) return;
    this.#shut = undefined;
    this.#open?.();
    this.#open = undefined;
  }
}
