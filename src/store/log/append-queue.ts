import { chunkBlocks } from "../formats/map-node.ts";
import type { AppendOperation } from "./append.ts";

/** Blocks gathered into one batch, from operations that wait at the same time. */
const gatherBlocksMax = 512;
const gatherOperationsMax = 1024;
/** Chunks of the map that they may need at the same time, at 12 KiB each: far below its limit. */
const gatherChunksMax = 1024;

/** Operations that leave in one append, and succeed or fail together. */
export class WaitingBatch {
  readonly operations: AppendOperation[] = [];
  /** Settles when they are appended; one for all of them. */
  readonly done: Promise<void>;
  resolve: () => void = () => {};
  reject: (error: unknown) => void = () => {};
  #blocks = 0;
  #chunks = 0;

  constructor() {
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  /** False if it has no room for it. */
  add(operation: AppendOperation): boolean {
    const blocks = this.#blocks + operation.crcs.length;
    const chunks = this.#chunks + Math.ceil(operation.count / chunkBlocks);
    const { length } = this.operations;
    const isFull = blocks > gatherBlocksMax || chunks > gatherChunksMax;
    if (length > 0 && (isFull || length >= gatherOperationsMax)) return false;
    this.operations.push(operation);
    this.#blocks = blocks;
    this.#chunks = chunks;
    return true;
  }
}

/** Operations that wait for their append, already in the batches in which they will leave. */
export class AppendQueue {
  readonly #batches: WaitingBatch[] = [];

  get isEmpty(): boolean {
    return this.#batches.length === 0;
  }

  /** The batch that will be appended last. */
  get last(): WaitingBatch | undefined {
    return this.#batches.at(-1);
  }

  add(operation: AppendOperation): Promise<void> {
    const { last } = this;
    if (last?.add(operation) === true) return last.done;
    const batch = new WaitingBatch();
    batch.add(operation);
    this.#batches.push(batch);
    return batch.done;
  }

  take(): WaitingBatch | undefined {
    return this.#batches.shift();
  }
}
