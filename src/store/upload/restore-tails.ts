import { isKelpieError } from "../../base/errors.ts";
import type { Files } from "../../host/files.ts";
import type { TieredBackend } from "../backend/tiered.ts";
import { logPrefix, parseNumbered, segmentKey, tailPrefix } from "../keys.ts";
import { parentOf } from "../paths.ts";
import { listAll } from "../recovery.ts";

/**
 * Makes files of segments again that this machine does not have, and the object store has in tails only:
 * of each the tails in order, up to the first that is missing.
 */
export async function restoreTails(
  start: { log: number; segment: number },
  components: { backend: TieredBackend; files: Files },
): Promise<void> {
  const { backend } = components;
  const prefix = tailPrefix(start.log);
  const tails = new Map<number, string[]>();
  for (const key of await listAll(backend.remote, prefix)) {
    const parsed = parseNumbered(prefix, key);
    if (parsed === undefined || parsed.number < start.segment) continue;
    const list = tails.get(parsed.number) ?? [];
    tails.set(parsed.number, list);
    // Keys come in the order of their numbers.
    if (parsed.generation === list.length) list.push(key);
  }
  if (tails.size === 0) return;
  const whole = new Set(await listAll(backend.remote, logPrefix(start.log)));
  for (const [number, keys] of tails) {
    const key = segmentKey(start.log, number);
    if (!whole.has(key)) await restoreSegment(key, keys, components);
  }
}

async function restoreSegment(
  key: string,
  tails: readonly string[],
  { backend, files }: { backend: TieredBackend; files: Files },
): Promise<void> {
  const path = backend.localPath(key);
  const temporary = backend.localPath(`restore/${key.replaceAll("/", "-")}`);
  if (await isThere(path, files)) return;
  await makeDirectory(parentOf(path), files);
  await makeDirectory(parentOf(temporary), files);
  await files.remove(temporary).catch(() => {}); // left by an attempt that did not end
  const handle = await files.open(temporary, { access: "create" });
  try {
    let at = 0;
    for (const tail of tails) {
      const bytes = await backend.remote.get(tail);
      await handle.write([bytes], at);
      at += bytes.length;
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  await files.rename(temporary, path);
  // Durability: it is as if it had been written here.
  await files.syncDirectory(parentOf(path));
}

async function makeDirectory(path: string, files: Files): Promise<void> {
  for (const made of await files.makeDirectory(path)) await files.syncDirectory(parentOf(made));
}

async function isThere(path: string, files: Files): Promise<boolean> {
  try {
    await files.stat(path);
    return true;
  } catch (error) {
    if (isKelpieError(error, "not-found")) return false;
    throw error;
  }
}
