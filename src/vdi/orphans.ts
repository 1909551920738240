import type { Store } from "../store/store.ts";
import type { VdiRegistry } from "./registry.ts";

/** Points that no name leads to: a flatten that a crash cut off. */
export async function deleteOrphans(store: Store, registry: VdiRegistry): Promise<void> {
  const named = new Set([...registry.working.values()].map((entry) => entry.tip));
  const extras = new Set(registry.objects.extras.values());
  const orphans = [...store.state.points.values()].filter(
    ({ id, deleted }) =>
      !deleted &&
      !named.has(id) &&
      !extras.has(id) &&
      registry.snapshotAt(id) === undefined &&
      !registry.discarded.has(id),
  );
  if (orphans.length === 0) return;
  await store.commit(
    orphans.map(({ id }) => ({ type: "delete" as const, id })),
    [],
  );
}
