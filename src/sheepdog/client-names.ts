import { KelpieError } from "../base/errors.ts";
import { parseSelector } from "../vdi/names.ts";
import type { RemoteSelector } from "./client.ts";

/** A point as people name it: no snapshot, a tag, or an id ("3", "#3"). */
export function selectorOf(name: string, snapshot?: string): RemoteSelector {
  if (snapshot === undefined) return { name };
  const selector = parseSelector(snapshot);
  if (selector.kind === "tag") return { name, tag: selector.tag };
  if (selector.snapId > 0) return { name, snapId: selector.snapId };
  throw new KelpieError("invalid", `snapshot ${snapshot}: ids begin at 1`);
}
