import { lengthOf } from "../../base/bytes.ts";
import { isKelpieError, KelpieError } from "../../base/errors.ts";
import type { Files } from "../../host/files.ts";
import type { RandomSource } from "../../host/random.ts";
import type { Backend, ByteRange, ObjectReader, PutOptions, PutOutcome } from "./backend.ts";
import { listDirectory } from "./directory-list.ts";
import { DirectoryTree } from "./directory-tree.ts";
import { checkKey } from "./keys.ts";

export interface DirectoryBackendSettings {
  /** The directory that holds the keys; made if it is not there. */
  root: string;
  /** Directories on the way to it that the caller has just made, and wants to be durable. */
  made?: readonly string[];
}

export interface DirectoryBackendComponents {
  files: Files;
  random: RandomSource;
}

/**
 * Opens a directory as a backend. `key` is the file `<root>/<key>`.
 *
 * One process at a time may have it open: what unfinished puts of an earlier process left in
 * `<root>/tmp` is finished and removed here.
 */
export async function openDirectoryBackend(
  settings: DirectoryBackendSettings,
  components: DirectoryBackendComponents,
): Promise<Backend> {
  const tree = new DirectoryTree(settings.root, components.files);
  await tree.open(settings.made ?? []);
  const backend = new DirectoryBackend(tree, components);
  await backend.removeTemporaries();
  return backend;
}

/** Keys may not begin with this: here puts are prepared. */
const temporaryDirectory = "tmp";

/**
 * Create-once is: write a temporary file, sync it, link it to its final name (which fails if that
 * exists), sync the directory, remove the temporary name. The last two in this order: as long as
 * the temporary is there, the name it was linked to may not be durable. Opening goes by that, so
 * that what was seen after the death of a process cannot vanish in a later power failure.
 */
class DirectoryBackend implements Backend {
  readonly #tree: DirectoryTree;
  readonly #files: Files;
  readonly #random: RandomSource;
  readonly #inFlight = new Set<Promise<unknown>>();
  #closed = false;

  constructor(tree: DirectoryTree, components: DirectoryBackendComponents) {
    this.#tree = tree;
    this.#files = components.files;
    this.#random = components.random;
  }

  putIfAbsent(
    key: string,
    chunks: readonly Uint8Array[],
    options: PutOptions = {},
  ): Promise<PutOutcome> {
    return this.#run(key, () => this.#put(key, chunks, options));
  }

  get(key: string, range?: ByteRange): Promise<Uint8Array> {
    return this.#run(key, async () => {
      await this.#tree.settle(directoryOf(key));
      const path = this.#tree.pathOf(key);
      return range === undefined ? this.#files.readFile(path) : this.#readRange(path, range);
    });
  }

  open(key: string): Promise<ObjectReader> {
    return this.#run(key, () => this.#files.open(this.#tree.pathOf(key), { access: "read" }));
  }

  list(prefix: string, after = ""): Promise<string[]> {
    return this.#run(undefined, async () => {
      const directory = directoryOf(prefix);
      if (directory !== "") checkKey(directory);
      const isHidden = (key: string): boolean => key === temporaryDirectory;
      return listDirectory({ prefix, after, isHidden }, { files: this.#files, tree: this.#tree });
    });
  }

  delete(key: string): Promise<void> {
    return this.#run(key, () => this.#removeIfThere(this.#tree.pathOf(key)));
  }

  localPath(key: string): string {
    checkKey(key);
    return this.#tree.pathOf(key);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#inFlight);
  }

  async removeTemporaries(): Promise<void> {
    const names = await this.#files.list(this.#tree.pathOf(temporaryDirectory));
    for (const directory of new Set(names.map((name) => directoryOf(keyOfTemporary(name))))) {
      await this.#tree.syncUpToRoot(directory);
    }
    for (const name of names) await this.#files.remove(this.#temporaryPath(name));
  }

  async #put(
    key: string,
    chunks: readonly Uint8Array[],
    { takeSpare }: PutOptions,
  ): Promise<PutOutcome> {
    const directory = directoryOf(key);
    await this.#tree.ensure(directory);
    await this.#tree.settle(directory);
    const temporary = this.#temporaryPath(temporaryName(key, this.#random));
    try {
      const isReused = (await takeSpare?.(temporary)) === true;
      await this.#writeDurably(temporary, { chunks, isReused });
    } catch (error) {
      await this.#discard(temporary);
      throw error;
    }
    const outcome = await this.#link(temporary, key);
    // If it is not known whether the name is durable, the temporary stays to say so to the next
    // open.
    if (outcome !== "unknown") await this.#discard(temporary);
    return outcome;
  }

  async #link(temporary: string, key: string): Promise<PutOutcome> {
    const directory = directoryOf(key);
    let outcome: PutOutcome = "created";
    try {
      await this.#files.link(temporary, this.#tree.pathOf(key));
    } catch (error) {
      if (isKelpieError(error, "no-space")) {
        await this.#discard(temporary);
        throw error;
      }
      // After any other error the name may be there or not.
      outcome = isKelpieError(error, "exists") ? "exists" : "unknown";
    }
    try {
      // DURABLE: the name. Also if it was there: its put may not have come this far, and who is
      // told that it exists builds on it.
      await this.#tree.sync(directory);
    } catch {
      // The name is there and may be lost: neither created nor failed. Whoever reads it back syncs
      // first.
      return "unknown";
    }
    return outcome;
  }

  async #writeDurably(
    path: string,
    content: { chunks: readonly Uint8Array[]; isReused: boolean },
  ): Promise<void> {
    const { chunks, isReused } = content;
    const handle = await this.#files.open(path, { access: isReused ? "write" : "create" });
    try {
      await handle.write(chunks, 0);
      if (isReused) await handle.truncate(lengthOf(chunks));
      // DURABLE: the contents, before there is a name by which they could be found.
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  async #readRange(path: string, range: ByteRange): Promise<Uint8Array> {
    const target = new Uint8Array(range.length);
    const handle = await this.#files.open(path, { access: "read" });
    try {
      const count = await handle.read(target, range.offset);
      if (count === range.length) return target;
      const end = range.offset + range.length;
      throw new KelpieError("io", `read ${path}: it ends before byte ${end}`);
    } finally {
      await handle.close();
    }
  }

  async #discard(temporary: string): Promise<void> {
    try {
      await this.#removeIfThere(temporary);
    } catch {
      // It takes space until the next open removes it; the put has its outcome all the same.
    }
  }

  async #removeIfThere(path: string): Promise<void> {
    try {
      await this.#files.remove(path);
    } catch (error) {
      if (!isKelpieError(error, "not-found")) throw error;
    }
  }

  #temporaryPath(name: string): string {
    return this.#tree.pathOf(`${temporaryDirectory}/${name}`);
  }

  /** Checks the key, if there is one, and lets `close` wait for the action. */
  async #run<T>(key: string | undefined, action: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new KelpieError("closed", "the store's directory is closed");
    if (key !== undefined) {
      checkKey(key);
      if (key === temporaryDirectory || key.startsWith(`${temporaryDirectory}/`)) {
        throw new KelpieError("invalid", `${key}: what begins with tmp/ is not a key of a store`);
      }
    }
    const running = action();
    this.#inFlight.add(running);
    try {
      return await running;
    } finally {
      this.#inFlight.delete(running);
    }
  }
}

/** "" for the root. */
function directoryOf(key: string): string {
  return key.slice(0, Math.max(0, key.lastIndexOf("/")));
}

/** "logs/a/b" becomes "logs_a_b.<random>"; "_" is in no key, so this can be undone. */
function temporaryName(key: string, random: RandomSource): string {
  const suffix = Array.from(random.bytes(8), (byte) => byte.toString(16).padStart(2, "0"));
  return `${key.replaceAll("/", "_")}.${suffix.join("")}`;
}

function keyOfTemporary(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf("."))).replaceAll("_", "/");
}
