import { isKelpieError } from "../../base/errors.ts";
import type { FileHandle, Files } from "../../host/files.ts";
import type { ObjectReader } from "./backend.ts";
import type { CacheBudget, Evictable } from "./cache-budget.ts";

/**
 * Segments as this machine wrote them, which stay where they are when the object store has them, as
 * part of the cache, until room is needed.
 */
export class LocalSegments {
  readonly #files: Files;
  readonly #budget: CacheBudget;
  /** By key: files that the object store has too. */
  readonly #uploaded = new Map<string, Uploaded>();
  /** By key: who reads a file, uploaded or not. */
  readonly #readers = new Map<string, Set<LocalFirstReader>>();

  constructor(components: { files: Files; budget: CacheBudget }) {
    this.#files = components.files;
    this.#budget = components.budget;
  }

  /** The object store has it: from here on the file may go. */
  uploaded(key: string, file: { path: string; bytes: number }): void {
    if (this.#uploaded.has(key)) return;
    const item = new Uploaded({ ...file, key }, this);
    this.#uploaded.set(key, item);
    this.#budget.add(item);
  }

  /** A reader of the file; from `elsewhere` once the file is gone. "not-found": it is not there. */
  async open(
    file: { key: string; path: string },
    elsewhere: () => Promise<ObjectReader>,
  ): Promise<ObjectReader> {
    const handle = await this.#files.open(file.path, { access: "read" });
    const reader = new LocalFirstReader(handle, {
      elsewhere,
      used: () => {
        const item = this.#uploaded.get(file.key);
        if (item !== undefined) item.used = true;
      },
      closed: () => this.#readersOf(file.key).delete(reader),
    });
    this.#readersOf(file.key).add(reader);
    return reader;
  }

  isRead(key: string): boolean {
    for (const reader of this.#readers.get(key) ?? []) if (reader.users > 0) return true;
    return false;
  }

  /** Removes the file, if it is there; who has it open reads on elsewhere. */
  async remove(key: string, path: string): Promise<void> {
    const item = this.#uploaded.get(key);
    this.#uploaded.delete(key);
    if (item !== undefined) this.#budget.remove(item);
    await this.#files.remove(path).catch((error: unknown) => {
      if (!isKelpieError(error, "not-found")) throw error;
    });
    for (const reader of this.#readers.get(key) ?? []) await reader.leaveFile();
    this.#readers.delete(key);
  }

  #readersOf(key: string): Set<LocalFirstReader> {
    const found = this.#readers.get(key) ?? new Set();
    this.#readers.set(key, found);
    return found;
  }
}

class Uploaded implements Evictable {
  readonly #segments: LocalSegments;
  readonly #key: string;
  readonly #path: string;
  readonly bytes: number;
  used = false;

  constructor(file: { key: string; path: string; bytes: number }, segments: LocalSegments) {
    this.#key = file.key;
    this.#path = file.path;
    this.bytes = file.bytes;
    this.#segments = segments;
  }

  get isBusy(): boolean {
    return this.#segments.isRead(this.#key);
  }

  evict(): Promise<void> {
    return this.#segments.remove(this.#key, this.#path);
  }
}

class LocalFirstReader implements ObjectReader {
  #handle: FileHandle | undefined;
  #elsewhere: Promise<ObjectReader> | undefined;
  readonly #hooks: {
    elsewhere: () => Promise<ObjectReader>;
    used: () => void;
    closed: () => void;
  };
  users = 0;

  constructor(
    handle: FileHandle,
    hooks: { elsewhere: () => Promise<ObjectReader>; used: () => void; closed: () => void },
  ) {
    this.#handle = handle;
    this.#hooks = hooks;
  }

  tryRead(target: Uint8Array, position: number): boolean {
    if (this.#handle?.tryRead(target, position) !== true) return false;
    this.#hooks.used();
    return true;
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    return await this.#on((reader) => reader.read(target, position));
  }

  async size(): Promise<number> {
    return await this.#on((reader) => reader.size());
  }

  async close(): Promise<void> {
    this.#hooks.closed();
    await this.leaveFile();
    const elsewhere = await this.#elsewhere?.catch(() => undefined);
    this.#elsewhere = undefined;
    await elsewhere?.close();
  }

  /** The file is gone: reads go elsewhere. One that is under way may go on. */
  async leaveFile(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    // Its space comes back when it is closed, which must not happen under a read.
    if (this.users === 0)
      await handle?.close().catch(() => {}); // it was only read
    else this.#left = handle;
  }

  #left: FileHandle | undefined;

  async #on<T>(action: (reader: Pick<ObjectReader, "read" | "size">) => Promise<T>): Promise<T> {
    const handle = this.#handle;
    if (handle === undefined) {
      this.#elsewhere ??= this.#hooks.elsewhere();
      this.#elsewhere.catch(() => {
        this.#elsewhere = undefined; // the next read tries again
      });
      return await action(await this.#elsewhere);
    }
    this.users++;
    this.#hooks.used();
    try {
      return await action(handle);
    } finally {
      this.users--;
      if (this.users === 0) {
        await this.#left?.close().catch(() => {}); // it was only read
        this.#left = undefined;
      }
    }
  }
}
