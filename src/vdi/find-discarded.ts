import { KelpieError } from "../base/errors.ts";
import type { Discarded, VdiRegistry } from "./registry.ts";

/** What `undelete` brings back: the newest of the name, or the one with that point. Throws "not-found". */
export function findDiscarded(
  registry: VdiRegistry,
  wanted: { name: string; point: number | undefined },
): Discarded {
  const { name, point } = wanted;
  const found = registry
    .discardedOf(name)
    .find((entry) => point === undefined || entry.point === point);
  if (found !== undefined) return found;
  const what = point === undefined ? "nothing discarded" : `no discarded tip ${point}`;
  throw new KelpieError("not-found", `disk "${name}" has ${what} to bring back`, {
    remedy: "`kelpie vdi list --discarded` shows what there is.",
  });
}
