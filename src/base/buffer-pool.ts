/**
 * Memory for replies that is used again. Fresh memory has to be mapped and cleared by the kernel: for a
 * reply of 1 MiB that costs as much as sending it. Sizes are powers of two from `pooledBytesMin`.
 */
export class BufferPool {
  readonly #free: ArrayBuffer[][] = [];
  #freeBytes = 0;

  /** At least `sizeBytes`, with whatever was in it before. */
  take(sizeBytes: number): ArrayBuffer {
    const index = classOf(sizeBytes);
    const found = this.#free[index]?.pop();
    if (found === undefined) return Buffer.allocUnsafeSlow(pooledBytesMin * 2 ** index).buffer;
    this.#freeBytes -= found.byteLength;
    return found;
  }

  /** Nobody reads or writes it any more. */
  give(memory: ArrayBuffer): void {
    if (this.#freeBytes + memory.byteLength > freeBytesMax) return;
    const index = classOf(memory.byteLength);
    this.#free[index] ??= [];
    this.#free[index].push(memory);
    this.#freeBytes += memory.byteLength;
  }
}

const pooledBytesMin = 32 * 1024;
/** Kept for later, for all connections together: eight replies of 1 MiB on each of two. */
const freeBytesMax = 32 * 2 ** 20;

function classOf(sizeBytes: number): number {
  return Math.max(0, Math.ceil(Math.log2(sizeBytes / pooledBytesMin)));
}
