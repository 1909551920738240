import { KelpieError } from "../base/errors.ts";
import type { RemoteSelector, SheepdogClient } from "./client.ts";
import { isRefused, LostAnswerError } from "./client-errors.ts";
import { objectCount, readEntries } from "./client-inode.ts";
import { resentMax, wipedEntriesMax, wipedPerRequest } from "./client-limits.ts";
import { result } from "./results.ts";
import { type InodeHeader, inodeEntriesAt } from "./wire-inode.ts";
import { inodeOid } from "./wire-oid.ts";
import { dataObjectsMax } from "./wire-opcodes.ts";

/**
 * Drops all references of a point: servers from 0.9 on delete nothing that has some left, and say that
 * they did. Its data is gone when this begins. May be repeated.
 */
export async function wipePoint(
  client: SheepdogClient,
  header: Pick<InodeHeader, "vid" | "sizeBytes" | "blockSizeShift">,
): Promise<void> {
  const { vid } = header;
  const entries = await readEntries(client, vid, { first: 0, count: objectCount(header) });
  for (const { first, count } of wipedRanges(entries)) {
    await client.writeObject({
      oid: inodeOid(vid),
      offset: inodeEntriesAt + 4 * first,
      chunks: [new Uint8Array(4 * count)],
    });
  }
}

/** Ranges with some entries each; holes in between, and behind the last one, are zeros already. */
function* wipedRanges(entries: Uint32Array): Generator<{ first: number; count: number }> {
  for (let first = 0; first < entries.length; ) {
    if (entries[first] === 0) {
      first++;
      continue;
    }
    let used = 0;
    let last = first;
    const limit = Math.min(entries.length, first + wipedEntriesMax);
    for (let index = first; index < limit && used < wipedPerRequest; index++) {
      if (entries[index] === 0) continue;
      used++;
      last = index;
    }
    // Never one alone: Kelpie's server takes that for a guest's trim, and more for what it has to keep.
    const start = Math.min(first, dataObjectsMax - 2);
    yield { first: start, count: Math.max(last + 1 - start, 2) };
    first = last + 1;
  }
}

/** Deletes what has no references left, and makes sure that it is gone. */
export async function deletePoint(client: SheepdogClient, selector: RemoteSelector): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.deleteVdi(selector);
      break;
    } catch (error) {
      const wasTried = attempt > 1 && isRefused(error, result.noVdi, result.noTag);
      if (wasTried) break;
      if (!(error instanceof LostAnswerError)) throw error;
      // Sent again only if it is still there: a second one could meet what came after the first.
      if (!(await isThere(client, selector))) break;
      if (attempt === resentMax) throw error;
    }
  }
  if (await isThere(client, selector)) {
    throw new KelpieError("io", `"${selector.name}" is still there after it was deleted`);
  }
}

async function isThere(client: SheepdogClient, selector: RemoteSelector): Promise<boolean> {
  try {
    await client.lookup(selector);
    return true;
  } catch (error) {
    if (isRefused(error, result.noVdi, result.noTag)) return false;
    throw error;
  }
}
