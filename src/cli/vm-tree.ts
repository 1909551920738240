import type { VdiEntry } from "../control/calls.ts";
import { treesOf } from "../control/tree.ts";
import type { VmSnapshotEntry } from "../control/vm-shapes.ts";
import { drawTree } from "./tree-drawing.ts";

/** The snapshots of a VM as `vdi tree` draws those of a disk, and where the VM stands. */
export function drawVmTree(
  name: string,
  snapshots: readonly VmSnapshotEntry[],
  columns: number,
): string {
  const current = snapshots.find((snapshot) => snapshot.current)?.id ?? null;
  const end = Math.max(0, ...snapshots.map(({ id }) => id)) + 1;
  const working = { id: end, tag: "", parent: current, takenMs: 0 };
  const entries = [...snapshots, working].map(
    (one): VdiEntry => ({
      name,
      kind: one === working ? "working" : "snapshot",
      snapId: one.id,
      tag: one.tag,
      point: one.id,
      parent: one.parent,
      family: 1,
      sizeBytes: 0,
      mappedBytes: 0,
      exclusiveBytes: 0,
      sharedBytes: 0,
      createdMs: one.takenMs,
      clone: false,
      clients: 0,
    }),
  );
  const drawings = treesOf(entries).map((root) => drawTree(root, columns).join("\n"));
  return `${drawings.join("\n\n")}\n`;
}
