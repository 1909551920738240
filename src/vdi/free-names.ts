import { KelpieError } from "../base/errors.ts";
import type { VdiRegistry } from "./registry.ts";

/** Throws "exists" if there is a disk of that name, or a snapshot that is exported under it. */
export function mustBeFree(registry: VdiRegistry, name: string): void {
  const at = name.lastIndexOf("@");
  if (at > 0 && registry.hasSnapshot(name.slice(0, at), name.slice(at + 1))) {
    throw new KelpieError("exists", `"${name}" is the name of a snapshot's export`);
  }
  if (!registry.working.has(name)) return;
  throw new KelpieError("exists", `there is a disk "${name}" already`);
}

/** The same for a tag of that disk's; tags of snapshots that are `replacing` go with them. */
export function tagMustBeFree(
  registry: VdiRegistry,
  wanted: { name: string; tag: string; replacing?: readonly number[] },
): void {
  const { name, tag, replacing = [] } = wanted;
  if (tag === "") return;
  if (registry.working.has(`${name}@${tag}`)) {
    throw new KelpieError("exists", `there is a disk "${name}@${tag}": the snapshot's export`);
  }
  const isTaken = registry
    .snapshotsOf(name)
    .some((entry) => entry.tag === tag && !replacing.includes(entry.point));
  if (isTaken) throw new KelpieError("exists", `disk "${name}" has a snapshot "${tag}" already`);
}
