import type { VdiEntry } from "../../src/control/calls.ts";

/** How a point is called: a tag, else its number. */
export function titleOf(entry: VdiEntry): string {
  if (entry.kind === "working") return entry.name;
  return entry.tag === "" ? `#${entry.snapId}` : entry.tag;
}
