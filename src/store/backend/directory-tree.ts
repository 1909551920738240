import { isKelpieError } from "../../base/errors.ts";
import type { Files } from "../../host/files.ts";

/** Directories known to be there and durable. Forgetting them costs a sync each, nothing else. */
const knownMax = 10_000;

/** The directories of a backend: makes them durable. They are named like keys; "" is the root. */
export class DirectoryTree {
  readonly root: string;
  readonly #files: Files;
  readonly #known = new Map<string, Promise<void>>();
  /** A sync of these failed after a name was made in them. */
  readonly #unsettled = new Set<string>();

  constructor(root: string, files: Files) {
    this.root = root;
    this.#files = files;
  }

  pathOf(key: string): string {
    return key === "" ? this.root : `${this.root}/${key}`;
  }

  /**
   * Makes the root, durably, and then tmp in it. If tmp is there, an earlier open came that far. If
   * it is not, that one may have died before it synced what it made, so every directory on the way
   * counts. `madeBefore` are those that the caller has made.
   */
  async open(madeBefore: readonly string[]): Promise<void> {
    const made = new Set([...madeBefore, ...(await this.#files.makeDirectory(this.root))]);
    const temporary = this.pathOf("tmp");
    if (made.size === 0 && (await this.#isThere(temporary))) return;
    for (let path = this.root; parentOf(path) !== path; path = parentOf(path)) {
      try {
        // DURABLE: the name of this directory.
        await this.#files.syncDirectory(parentOf(path));
      } catch (error) {
        // What we did not make we may not be allowed to read, and need not make durable.
        if (made.has(path)) throw error;
      }
    }
    await this.#files.makeDirectory(temporary);
  }

  /** Makes a directory and those above it, unless they are there, and sees to it that they stay. */
  ensure(directory: string): Promise<void> {
    if (directory === "") return Promise.resolve();
    let known = this.#known.get(directory);
    if (known === undefined) {
      if (this.#known.size >= knownMax) this.#known.clear();
      known = this.#make(directory);
      this.#known.set(directory, known);
      known.catch(() => this.#known.delete(directory));
    }
    return known;
  }

  async sync(directory: string): Promise<void> {
    try {
      await this.#files.syncDirectory(this.pathOf(directory));
    } catch (error) {
      if (!isKelpieError(error, "not-found")) this.#unsettled.add(directory);
      throw error;
    }
    this.#unsettled.delete(directory);
  }

  /**
   * Before names in the directory are reported: if a sync of it has failed, they may be lost again.
   * Fails as long as that is so.
   */
  async settle(directory: string): Promise<void> {
    if (this.#unsettled.has(directory)) await this.sync(directory);
  }

  /** Makes the names on the way to, and in, a directory durable, as far as it is there. */
  async syncUpToRoot(directory: string): Promise<void> {
    const names = directory === "" ? [] : directory.split("/");
    for (let depth = 0; depth <= names.length; depth += 1) {
      try {
        // DURABLE: names that a process which died may have made.
        await this.sync(names.slice(0, depth).join("/"));
      } catch (error) {
        if (!isKelpieError(error, "not-found")) throw error;
        // It died before it made this one; there is nothing below.
        return;
      }
    }
  }

  async #make(directory: string): Promise<void> {
    const parent = directory.slice(0, Math.max(0, directory.lastIndexOf("/")));
    await this.ensure(parent);
    await this.#files.makeDirectory(this.pathOf(directory));
    // DURABLE: the name of this directory. Also if it was there: who made it may not have come this
    // far.
    await this.sync(parent);
  }

  async #isThere(path: string): Promise<boolean> {
    try {
      await this.#files.stat(path);
      return true;
    } catch (error) {
      if (isKelpieError(error, "not-found")) return false;
      throw error;
    }
  }
}

function parentOf(path: string): string {
  const end = path.lastIndexOf("/");
  if (end < 0) return ".";
  return end === 0 ? "/" : path.slice(0, end);
}
