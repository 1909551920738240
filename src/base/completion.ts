/**
 * A result that is there already, or will be. A read of resident data completes at once; paying for
 * a promise and a turn of the loop there costs more than the read.
 */
export type Completion<T> = T | Promise<T>;

export function isPending<T>(completion: Completion<T>): completion is Promise<T> {
  return completion instanceof Promise;
}

/** Waits for all of them, and throws the first failure: then nothing is under way any more. */
export async function settled(all: readonly Promise<void>[]): Promise<void> {
  if (all.length === 1) return all[0];
  for (const outcome of await Promise.allSettled(all)) {
    if (outcome.status === "rejected") throw outcome.reason;
  }
}
