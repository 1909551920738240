import type { TreeNode } from "../../src/control/tree.ts";

/**
 * What `vdi tree --json` prints, as "one(two(disk) clone)": a point's tag or name, and in brackets
 * what stands on it, oldest first.
 */
export function treeShape(printed: unknown): string {
  const draw = ({ entry, children }: TreeNode): string => {
    const label = entry.kind === "working" ? entry.name : entry.tag;
    return children.length === 0 ? label : `${label}(${children.map(draw).join(" ")})`;
  };
  return (printed as TreeNode[]).map(draw).join(" ");
}
