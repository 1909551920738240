import type { Frame, Kind } from "./frames.ts";
import type { Sample } from "./perf-script.ts";

/** A function as it was called from one place, with all that it called. */
export interface Box extends Frame {
  /** Samples in it or in what it called. */
  count: number;
  /** Samples in the function itself. */
  own: number;
  children: Map<string, Box>;
}

/** Samples that have their outermost functions in common share these; the outermost of all is the thread. */
export function fold(samples: readonly Sample[]): Box {
  const root = box({ kind: "native", name: "all" });
  for (const { thread, frames } of samples) {
    let at = root;
    at.count++;
    for (const frame of [{ kind: "native", name: thread } as const, ...frames]) {
      at = childOf(at, frame);
      at.count++;
    }
    at.own++;
  }
  return root;
}

function box(frame: Frame): Box {
  return { ...frame, count: 0, own: 0, children: new Map() };
}

function childOf(parent: Box, frame: Frame): Box {
  const key = `${frame.kind} ${frame.name}`;
  const child = parent.children.get(key) ?? box(frame);
  parent.children.set(key, child);
  return child;
}

/** Boxes with fewer samples are left out; if their siblings that are left out come to as many, as one. */
export function prune(tree: Box, countMin: number): Box {
  const children = new Map<string, Box>();
  let others = 0;
  for (const [key, child] of tree.children) {
    if (child.count >= countMin) children.set(key, prune(child, countMin));
    else others += child.count;
  }
  if (others >= countMin) {
    const rest = box({ kind: tree.kind, name: "(others)" });
    children.set("others", { ...rest, count: others, own: others });
  }
  return { ...tree, children };
}

/** Samples by what the innermost function belongs to. */
export function countByKind(tree: Box, counts = new Map<Kind, number>()): Map<Kind, number> {
  counts.set(tree.kind, (counts.get(tree.kind) ?? 0) + tree.own);
  for (const child of tree.children.values()) countByKind(child, counts);
  return counts;
}
