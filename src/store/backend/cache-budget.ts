import type { Files } from "../../host/files.ts";

/** Something that may go when room is needed. */
export interface Evictable {
  readonly bytes: number;
  /** Read since room was last needed: then it has one more turn. */
  used: boolean;
  /** Somebody reads it just now. */
  readonly isBusy: boolean;
  evict(): Promise<void>;
}

/** Looked at again after so much was added. */
const spaceCheckBytes = 64 * 2 ** 20;
/** Of the file system a cache leaves this share free, and at most this much. */
const freeShare = 0.05;
const freeBytesMax = 2 ** 30;

/**
 * How much a cache may take, and what goes when that is reached: what was not used since the last time
 * around, oldest first. It takes less than it may where its file system is full.
 */
export class CacheBudget {
  readonly #directory: string;
  readonly #settingBytes: number;
  readonly #files: Files;
  readonly #items = new Set<Evictable>();
  #limitBytes: number;
  #sinceCheck = spaceCheckBytes;
  #shrinking: Promise<void> | undefined;
  usedBytes = 0;

  constructor(settings: { directory: string; limitBytes: number }, components: { files: Files }) {
    this.#directory = settings.directory;
    this.#settingBytes = settings.limitBytes;
    this.#limitBytes = settings.limitBytes;
    this.#files = components.files;
  }

  get limitBytes(): number {
    return this.#settingBytes;
  }

  add(item: Evictable): void {
    if (this.#items.has(item)) return;
    this.#items.add(item);
    this.usedBytes += item.bytes;
    this.#sinceCheck += item.bytes;
  }

  /** It is gone, or not to be evicted any more. */
  remove(item: Evictable): void {
    if (this.#items.delete(item)) this.usedBytes -= item.bytes;
  }

  /** Makes what is over the limit go. One pass at a time, which all who ask share. */
  shrink(): Promise<void> {
    this.#shrinking ??= this.#shrink().finally(() => {
      this.#shrinking = undefined;
    });
    return this.#shrinking;
  }

  async #shrink(): Promise<void> {
    if (this.#sinceCheck >= spaceCheckBytes) await this.#lookAtSpace();
    // Everything may have been used: then each has lost its turn after the first round.
    let turns = 2 * this.#items.size;
    for (const item of this.#items) {
      if (this.usedBytes <= this.#limitBytes || turns-- === 0) return;
      if (item.used || item.isBusy) {
        item.used = false;
        this.#items.delete(item);
        this.#items.add(item);
      } else {
        this.remove(item);
        await item.evict();
      }
    }
  }

  async #lookAtSpace(): Promise<void> {
    this.#sinceCheck = 0;
    const { totalBytes, freeBytes } = await this.#files.space(this.#directory);
    const keepFree = Math.min(totalBytes * freeShare, freeBytesMax);
    this.#limitBytes = Math.min(
      this.#settingBytes,
      Math.max(0, this.usedBytes + freeBytes - keepFree),
    );
  }
}
