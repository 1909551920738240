import type { World } from "./world.ts";

/** Of a store without disks: its identity, a checkpoint, the lock, and the last records. */
const emptyBytes = 2 ** 16;

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

/** What a stopped machine without disks has on the host's disk. */
export function takesNothing(world: World): void {
  const { files } = world.machine;
  const { usedBytes } = files.fullness;
  if (usedBytes <= emptyBytes) return;
  const largest = [...files.contents()].sort((a, b) => b[1] - a[1]).slice(0, 3);
  const nameless = files.leftOpen.namelessBytes;
  world.fail(
    `an empty store takes ${usedBytes} bytes, ${nameless} of them without a name; ` +
      largest.map(([path, bytes]) => `${path} ${bytes}`).join(", "),
  );
}
