import { isMainThread, parentPort, Worker } from "node:worker_threads";

/**
 * Runs work of a test in a thread of its own. The test runner follows every promise that is made
 * under it, so that work which makes millions of them takes three to five times as long there.
 */
export class Apart<Input, Output> {
  readonly #worker: Worker;
  #running: Promise<unknown> = Promise.resolve();

  /** `url` is of a module that calls `workApart`. */
  constructor(url: URL) {
    this.#worker = new Worker(url);
    // The test file may end while it waits for the next piece of work.
    this.#worker.unref();
  }

  /** One piece of work after the other. Fails as the work fails. */
  run(input: Input): Promise<Output> {
    const result = this.#running.then(() => this.#ask(input));
    this.#running = result.catch(() => {});
    return result;
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #ask(input: Input): Promise<Output> {
    const worker = this.#worker;
    worker.ref();
    return new Promise<Output>((resolve, reject) => {
      const fail = (error: Error) => reject(new Error("the thread failed", { cause: error }));
      worker.once("error", fail);
      worker.once("message", (answer: Answer<Output>) => {
        worker.off("error", fail);
        worker.unref();
        if ("error" in answer) reject(new Error(answer.error));
        else resolve(answer.output);
      });
      worker.postMessage(input);
    });
  }
}

type Answer<Output> = { output: Output } | { error: string };

/** For the module that does the work: answers each input that `Apart.run` sends. */
export function workApart<Input, Output>(work: (input: Input) => Promise<Output>): void {
  if (isMainThread || parentPort === null) return;
  const port = parentPort;
  port.on("message", (input: Input) => {
    work(input).then(
      (output) => port.postMessage({ output } satisfies Answer<Output>),
      (error: unknown) => port.postMessage({ error: textOf(error) } satisfies Answer<Output>),
    );
  });
}

/** With the stack of the first cause, which is where it happened. */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.cause === undefined) return error.stack ?? error.message;
  return `${error.message}\ncaused by ${textOf(error.cause)}`;
}
