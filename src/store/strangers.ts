import { logPrefix, logsPrefix, mapsPrefix, parseNumbered } from "./keys.ts";
import { listAll } from "./recovery.ts";
import type { Segment } from "./segment.ts";
import type { Store } from "./store.ts";

/**
 * Keys of segments and map objects that nothing needs: a removal that power loss undid, a body or an
 * object that was put just before a crash. Not while anything is checkpointed or cleaned.
 */
export async function strangers(store: Pick<Store, "backend" | "state">): Promise<string[]> {
  const { backend, state } = store;
  const found: string[] = [];
  for (const key of await listAll(backend, mapsPrefix)) {
    const parsed = parseNumbered(mapsPrefix, key);
    const known = parsed === undefined ? undefined : state.mapObjects.byNumber.get(parsed.number);
    if (known === undefined || parsed?.generation !== known.generation) found.push(key);
  }
  for (const key of await listAll(backend, logsPrefix)) {
    // A segment is in the table before its file is made, so one that is not there now never was.
    if (segmentOf(store, key) === undefined) found.push(key);
  }
  return found;
}

function segmentOf(store: Pick<Store, "state">, key: string): Segment | undefined {
  const log = Number.parseInt(key.slice(logsPrefix.length, logsPrefix.length + 16), 16);
  if (!Number.isSafeInteger(log)) return undefined;
  const parsed = parseNumbered(logPrefix(log), key);
  if (parsed === undefined) return undefined;
  const segment = store.state.segments.at(log, parsed.number);
  return segment?.generation === parsed.generation ? segment : undefined;
}
