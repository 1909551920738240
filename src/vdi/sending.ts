import type { FlushMode } from "./notes.ts";
import type { Vdis } from "./vdis.ts";

/** Changes what a flush of a disk waits for. */
export async function setFlushMode(vdis: Vdis, name: string, mode: FlushMode): Promise<void> {
  await vdis.locks.run([name], async () => {
    vdis.registry.find(name);
    if (vdis.registry.flushModeOf(name) === mode) return;
    await vdis.note([{ type: "flush", name, mode }]);
    await vdis.volumes.flushModeChanged(name);
  });
}

/**
 * Deletes snapshots whose data was lost with the machine that wrote it: the disks that stand on them are
 * what is left, which is a moment of them before. Says which.
 */
export async function deleteIncomplete(vdis: Vdis): Promise<string[]> {
  const { registry, store } = vdis;
  const lost = store.incomplete.filter((point) => registry.snapshotAt(point) !== undefined);
  const names = lost.map((point) => registry.nameOfPoint(point) ?? "");
  if (lost.length > 0) await vdis.deleteSnapshots(lost, []);
  return names;
}
