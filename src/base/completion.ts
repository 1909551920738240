/**
 * A result that is there already, or will be. A read of resident data completes at once; paying for
 * a promise and a turn of the loop there costs more than the read.
 */
export type Completion<T> = T | Promise<T>;

export function isPending<T>(completion: Completion<T>): completion is Promise<T> {
  return completion instanceof Promise;
}
