import { logsPrefix, mapsPrefix, parseNumbered, segmentOfKey } from "./keys.ts";
import { currentGeneration, listAll } from "./recovery.ts";
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
  const bodies = new Map<Segment, { key: string; generation: number }[]>();
  for (const key of await listAll(backend, logsPrefix)) {
    const body = bodyOf(store, key);
    // A segment is in the table before its file is made, so one that is not there now never was.
    if (body === undefined) found.push(key);
    else bodies.set(body.segment, [...(bodies.get(body.segment) ?? []), { ...body, key }]);
  }
  for (const [segment, list] of bodies) {
    const generations = list.map(({ generation }) => generation);
    // It may have been cleaned after the checkpoint that this process began with.
    segment.generation = currentGeneration(segment.generation, generations);
    for (const { key, generation } of list) if (generation !== segment.generation) found.push(key);
  }
  return found;
}

function bodyOf(
  { state }: Pick<Store, "state">,
  key: string,
): { segment: Segment; generation: number } | undefined {
  const parsed = segmentOfKey(key);
  if (parsed === undefined) return undefined;
  const segment = state.segments.at(parsed.log, parsed.number);
  return segment === undefined ? undefined : { segment, generation: parsed.generation };
}
