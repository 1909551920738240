import { isKelpieError } from "../../base/errors.ts";
import type { Host } from "../../host/host.ts";
import type { ObjectStore } from "../../host/object-store.ts";
import { logsPrefix } from "../keys.ts";
import type { Backend, ByteRange, ObjectReader, PutOutcome } from "./backend.ts";
import { CacheBudget } from "./cache-budget.ts";
import { openDirectoryBackend } from "./directory.ts";
import { LocalSegments } from "./local-segments.ts";
import { ObjectCache } from "./object-cache.ts";
import { S3Backend } from "./s3.ts";

/** `directory` is on this machine. What an earlier process kept in it counts. */
export async function openTieredBackend(
  settings: { directory: string; cacheBytes: number; pieceBytes?: number; giveUpMs?: number },
  { host, objects }: { host: Host; objects: ObjectStore },
): Promise<TieredBackend> {
  const { directory, cacheBytes: limitBytes, pieceBytes, giveUpMs } = settings;
  const { files } = host;
  const { clock, timers, random, log } = host;
  const remote = new S3Backend(giveUpMs === undefined ? {} : { giveUpMs }, {
    objects,
    clock,
    timers,
    random,
    log,
  });
  const local = await openDirectoryBackend({ root: directory }, { files, random });
  const budget = new CacheBudget({ directory, limitBytes }, { files });
  const segments = new LocalSegments({ files, budget });
  const cache = new ObjectCache(
    { directory: `${directory}/cache`, ...(pieceBytes === undefined ? {} : { pieceBytes }) },
    { files, budget, source: remote },
  );
  await cache.load();
  return new TieredBackend({ remote, local, segments, cache, budget });
}

export interface TieredComponents {
  remote: S3Backend;
  /** The directory of this machine, which holds segments that are written and not uploaded yet. */
  local: Backend;
  segments: LocalSegments;
  cache: ObjectCache;
  budget: CacheBudget;
}

const listedMax = 1_000;

/**
 * An object store with a directory of this machine before it. What is put goes to the object store;
 * segments are written in the directory, and count as there before they are uploaded; what is read is
 * looked for in the directory first.
 */
export class TieredBackend implements Backend {
  readonly #components: TieredComponents;

  constructor(components: TieredComponents) {
    this.#components = components;
  }

  get remote(): S3Backend {
    return this.#components.remote;
  }

  get local(): Backend {
    return this.#components.local;
  }

  get cache(): ObjectCache {
    return this.#components.cache;
  }

  get budget(): CacheBudget {
    return this.#components.budget;
  }

  putIfAbsent(key: string, chunks: readonly Uint8Array[]): Promise<PutOutcome> {
    return this.#components.remote.putIfAbsent(key, chunks);
  }

  async get(key: string, range?: ByteRange): Promise<Uint8Array> {
    const { local, remote } = this.#components;
    if (key.startsWith(logsPrefix)) {
      try {
        return await local.get(key, range);
      } catch (error) {
        if (!isKelpieError(error, "not-found")) throw error;
      }
    }
    return await remote.get(key, range);
  }

  async open(key: string): Promise<ObjectReader> {
    const { segments, cache } = this.#components;
    if (key.startsWith(logsPrefix)) {
      try {
        return await segments.open({ key, path: this.localPath(key) }, () => cache.open(key));
      } catch (error) {
        if (!isKelpieError(error, "not-found")) throw error;
      }
    }
    return await cache.open(key);
  }

  async list(prefix: string, after = ""): Promise<string[]> {
    const { local, remote } = this.#components;
    const there = await remote.list(prefix, after);
    if (!prefix.startsWith(logsPrefix)) return there;
    const here = await local.list(prefix, after);
    if (here.length === 0) return there;
    return [...new Set([...there, ...here])].sort().slice(0, listedMax);
  }

  async delete(key: string): Promise<void> {
    const { segments, cache, remote } = this.#components;
    // First what is here: what is found in a cache counts as being there.
    await cache.drop(key);
    if (key.startsWith(logsPrefix)) await segments.remove(key, this.localPath(key));
    await remote.delete(key);
  }

  /** Where the file of a segment is that this machine writes. */
  localPath(key: string): string {
    return this.#components.local.localPath(key) as string;
  }

  /** A segment that was written here is in the object store now. */
  uploaded(key: string, bytes: number): void {
    const { segments, budget } = this.#components;
    segments.uploaded(key, { path: this.localPath(key), bytes });
    void budget.shrink().catch(() => {}); // what is too much goes the next time
  }

  hasten(): void {
    this.#components.remote.hasten();
  }

  async close(): Promise<void> {
    await this.#components.remote.close();
    await this.#components.cache.close();
    await this.#components.local.close();
  }
}
