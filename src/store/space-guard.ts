import { KelpieError } from "../base/errors.ts";
import type { Clock } from "../host/clock.ts";
import type { Files, Space } from "../host/files.ts";

/** How stale the figure for free space may be while it is far from the reserve, and near it. */
const checkMs = 1000;
const checkNearMs = 50;
/** Room for what a write costs beside its data: headers, summary, map. */
const overheadFactor = 1.25;

/**
 * Keeps guests away from the last bit of space, so that a full store can still be freed: deletes need
 * a record, checkpoints and cleaned bodies need room.
 */
export class SpaceGuard {
  readonly #files: Files;
  readonly #clock: Clock;
  readonly #directory: string;
  readonly #reserveBytes: number | undefined;
  #space: Space = { totalBytes: 0, freeBytes: 0 };
  #checkedMs = Number.NEGATIVE_INFINITY;
  #writtenSince = 0;
  #checking: Promise<void> | undefined;
  /** A guest was refused, and since then not much has become free. */
  #isShort = false;

  constructor(
    settings: { directory: string; reserveBytes?: number | undefined },
    components: { files: Files; clock: Clock },
  ) {
    this.#directory = settings.directory;
    this.#reserveBytes = settings.reserveBytes;
    this.#files = components.files;
    this.#clock = components.clock;
  }

  /** 1 % of the file system, at most 256 MiB, at least 16 MiB so that a record and a body fit. */
  get reserveBytes(): number {
    if (this.#reserveBytes !== undefined) return this.#reserveBytes;
    return Math.max(16 * 2 ** 20, Math.min(256 * 2 ** 20, this.#space.totalBytes / 100));
  }

  get freeBytes(): number {
    return Math.max(0, this.#space.freeBytes - this.#writtenSince);
  }

  get isFull(): boolean {
    return this.#isShort || this.freeBytes <= this.reserveBytes;
  }

  /**
   * Throws "no-space" if a guest's write of this many bytes would touch the reserve. What gives space
   * back, such as a discard, may use half of it.
   */
  admit(bytes: number, use: "data" | "discard" = "data"): void {
    const cost = bytes * overheadFactor;
    const reserve = use === "discard" ? this.reserveBytes / 2 : this.reserveBytes;
    const left = this.freeBytes - cost - reserve;
    const near = left < 8 * this.reserveBytes;
    if (this.#clock.monotonicMs() - this.#checkedMs > (near ? checkNearMs : checkMs)) {
      // A figure that cannot be had now leaves the last one in force, and is asked for again.
      this.check().catch(() => {});
    }
    if (left < 0) {
      this.#isShort = true;
      throw new KelpieError("no-space", "the store is full", {
        remedy:
          "Free space on its file system, or delete disks or snapshots; writing then works again.",
      });
    }
    this.#writtenSince += cost;
  }

  async check(): Promise<void> {
    this.#checking ??= this.#read().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  async #read(): Promise<void> {
    this.#checkedMs = this.#clock.monotonicMs();
    const before = this.#writtenSince;
    this.#space = await this.#files.space(this.#directory);
    // What was written while the answer was on its way may or may not be in it.
    this.#writtenSince -= before;
    if (this.freeBytes > 1.5 * this.reserveBytes) this.#isShort = false;
  }
}
