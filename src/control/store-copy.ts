import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Backend } from "../store/backend/backend.ts";
import { decodeIdentity } from "../store/formats/identity.ts";
import { copyingKey, identityKey, storeParts } from "../store/keys.ts";
import { listAll } from "../store/recovery.ts";
import type { Store } from "../store/store.ts";
import type { Progress } from "./calls.ts";

/** Objects on their way at one time; each is in memory. */
const lanes = 3;

export interface StoreCopyOptions {
  progress?: ((progress: Progress) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface StoreCopyResult {
  objects: number;
  bytes: number;
  /** Of the objects, how many an earlier attempt had copied. */
  found: number;
}

/**
 * Copies a store, which nobody writes, object by object to a place that has none. The identity goes last:
 * until it is there, what stands there is no store. What an earlier attempt copied is not copied again.
 */
export async function copyStore(
  source: Store,
  target: Backend,
  options: StoreCopyOptions = {},
): Promise<StoreCopyResult> {
  // What it stands on is all in objects then.
  await source.checkpoint();
  return await source.exclusively(() => copyObjects(source, target, options));
}

async function copyObjects(
  source: Store,
  target: Backend,
  { progress, signal }: StoreCopyOptions,
): Promise<StoreCopyResult> {
  await begin(source.identity.id, target);
  const result: StoreCopyResult = { objects: 0, bytes: 0, found: 0 };
  const keys = (await keysOf(source.backend)).filter((key) => key !== identityKey);
  const there = new Set(await keysOf(target));
  const totalBytes = source.cleaner.totals().usedBytes + source.state.mapObjects.totalBytes;
  const queue = keys.values();
  const lane = async (): Promise<void> => {
    for (const key of queue) {
      if (signal?.aborted) throw new KelpieError("closed", "interrupted");
      if (there.has(key)) result.found++;
      else result.bytes += await copyObject(source.backend, target, key);
      result.objects++;
      progress?.({ doneBytes: result.bytes, totalBytes });
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  // Durability: from here on there is a store.
  await copyObject(source.backend, target, identityKey);
  await target.delete(copyingKey);
  result.objects++;
  return result;
}

/** Whose copy it is, so that an attempt that is taken up again goes on with the same store. */
async function begin(id: string, target: Backend): Promise<void> {
  const standing = await textOf(
    target,
    identityKey,
    (bytes) => decodeIdentity(bytes, identityKey).id,
  );
  if (standing !== undefined) {
    throw new KelpieError("exists", `there is a store already, ${standing}`, {
      remedy: "Name an empty place.",
    });
  }
  const copying = await textOf(target, copyingKey, (bytes) => Buffer.from(bytes).toString());
  if (copying !== undefined && copying !== id) {
    throw new KelpieError("exists", `there is a part of a copy of another store, ${copying}`, {
      remedy: "Finish that one, or name an empty place.",
    });
  }
  if (copying === undefined) await target.putIfAbsent(copyingKey, [Buffer.from(id)]);
}

async function textOf(
  backend: Backend,
  key: string,
  decode: (bytes: Uint8Array) => string,
): Promise<string | undefined> {
  try {
    return decode(await backend.get(key));
  } catch (error) {
    if (isKelpieError(error, "not-found")) return undefined;
    throw error;
  }
}

/** All that makes a store: who has it open, and what was only tried, does not. */
async function keysOf(backend: Backend): Promise<string[]> {
  const keys: string[] = [];
  for (const part of storeParts) keys.push(...(await listAll(backend, part)));
  return keys;
}

async function copyObject(source: Backend, target: Backend, key: string): Promise<number> {
  const bytes = await source.get(key);
  const outcome = await target.putIfAbsent(key, [bytes]);
  // It may be of a put of ours that was answered late.
  if (outcome === "created") return bytes.length;
  if (Buffer.compare(await target.get(key), bytes) === 0) return bytes.length;
  throw new KelpieError("io", `${key} could not be copied: ${outcome}`);
}
