import type { World } from "./world.ts";

/** Deletes all there is, and cleans: nothing of it may stay. */
export async function deleteAll(world: World): Promise<void> {
  const { vdis } = world.machine;
  const { registry, store } = vdis;
  for (const name of registry.names()) {
    for (const { tag } of registry.snapshotsOf(name)) await vdis.deleteSnapshot(name, tag);
    if (registry.working.has(name)) await vdis.delete(name);
  }
  await vdis.purge();
  await store.clean();
  const { points, segments, mapObjects } = store.state;
  if (world.mayLeak) return;
  const left = { points: points.size, segments: segments.count, mapBytes: mapObjects.totalBytes };
  if (left.points + left.segments + left.mapBytes === 0) return;
  world.fail(`all was deleted and cleaned, and there is still: ${JSON.stringify(left)}`);
}
