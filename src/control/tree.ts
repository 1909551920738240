import type { VdiEntry } from "./calls.ts";

/** A point that can be seen, and those that stand on it, older siblings first. */
export interface TreeNode {
  entry: VdiEntry;
  children: TreeNode[];
}

/**
 * The trees that points form; the roots of several families in the order they came to be. Answers of
 * `vdi.list` are flat, because a thousand snapshots are deeper than JSON can be nested.
 */
export function treesOf(entries: readonly VdiEntry[]): TreeNode[] {
  const nodes = new Map<number, TreeNode>();
  for (const entry of entries.toSorted((a, b) => a.point - b.point)) {
    nodes.set(entry.point, { entry, children: [] });
  }
  const roots: TreeNode[] = [];
  for (const node of nodes.values()) {
    const parent = node.entry.parent === null ? undefined : nodes.get(node.entry.parent);
    (parent?.children ?? roots).push(node);
  }
  return roots;
}

/** The points of the families that a name is part of. */
export function familyEntries(entries: readonly VdiEntry[], name: string): VdiEntry[] {
  const families = new Set(entries.filter((e) => e.name === name).map(({ family }) => family));
  return entries.filter(({ family }) => families.has(family));
}
