import type { Completion } from "../base/completion.ts";
import { KelpieError } from "../base/errors.ts";
import type { BlockDevice, Extent, ExtentQuery } from "../block/block-device.ts";
import type { RequestLimiter } from "../block/request-limiter.ts";
import type { Point } from "../store/point.ts";
import type { Store } from "../store/store.ts";
import { readBytes } from "./byte-ranges.ts";
import type { History } from "./history.ts";

/** A snapshot as a device: it never changes. */
export class SnapshotDevice implements BlockDevice {
  readonly readOnly = true;
  readonly sizeBytes: number;
  readonly #name: string;
  readonly #point: Point;
  readonly #store: Store;
  readonly #history: History;
  readonly #limiter: RequestLimiter | undefined;

  /** It is read at the rate of its disk, if that is there. */
  constructor(
    settings: { name: string; point: Point },
    components: { store: Store; history: History; limiter: RequestLimiter | undefined },
  ) {
    this.#name = settings.name;
    this.#point = settings.point;
    this.sizeBytes = settings.point.sizeBytes;
    this.#store = components.store;
    this.#history = components.history;
    this.#limiter = components.limiter;
  }

  read(target: Uint8Array, offset: number): Completion<void> {
    const read = (blocks: Uint8Array, first: number) =>
      this.#store.read(this.#point, { target: blocks, first });
    const wait = this.#limiter?.admit(target.length);
    if (wait === undefined) return readBytes(read, target, offset);
    return wait.then(() => readBytes(read, target, offset));
  }

  write(): Completion<void> {
    throw readOnly();
  }

  zero(): Completion<void> {
    throw readOnly();
  }

  trim(): Completion<void> {
    throw readOnly();
  }

  flush(): Completion<void> {}

  cache(offset: number, length: number): Completion<void> {
    return this.#history.loadMaps(this.#point, offset, length);
  }

  extents(query: ExtentQuery): Promise<Extent[]> {
    return this.#history.extents(this.#point, this.#name, query);
  }

  async changeBases(): Promise<string[]> {
    return this.#history.changeBases(this.#name);
  }
}

function readOnly(): KelpieError {
  return new KelpieError("read-only", "a snapshot cannot be written");
}
