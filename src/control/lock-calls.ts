import { KelpieError } from "../base/errors.ts";
import type { CallName, LockEntry } from "./calls.ts";
import type { ControlParts, Handlers } from "./control.ts";

type LockCall = Extract<CallName, "vdi.locks" | "vdi.breakLock">;

/** Locks that clients of Sheepdog have. */
export function lockCalls({ vdis }: ControlParts): Handlers<LockCall> {
  const { registry, vidLocks } = vdis;

  /** Undefined for a snapshot that is gone: its lock hinders nobody. */
  function entryOf(key: string | number): Pick<LockEntry, "name" | "snapId" | "tag"> | undefined {
    if (typeof key === "string") return { name: key, snapId: null, tag: "" };
    const point = registry.objects.vids.get(key)?.point ?? 0;
    const snapshot = registry.snapshotAt(point);
    if (snapshot === undefined) return undefined;
    const { name, snapId, tag } = snapshot;
    return { name, snapId, tag };
  }

  function keyOf(name: string, snapshot: string | undefined): string | number {
    if (snapshot === undefined) return registry.find(name).name;
    const { point } = registry.findSnapshot(name, snapshot);
    return registry.objects.vids.ofPoint(point)?.vid ?? 0;
  }

  return {
    "vdi.locks": async ({ name }) => {
      if (name !== undefined && registry.snapshotsOf(name).length === 0) registry.find(name);
      const locks = vidLocks.all().flatMap(({ key, shared, owners }): LockEntry[] => {
        const entry = entryOf(key);
        if (entry === undefined || (name !== undefined && entry.name !== name)) return [];
        return [{ ...entry, shared, owners: owners.map(({ peer }) => peer) }];
      });
      const last = Number.POSITIVE_INFINITY;
      return locks.sort(
        (a, b) => compare(a.name, b.name) || compare(a.snapId ?? last, b.snapId ?? last),
      );
    },
    "vdi.breakLock": async ({ name, snapshot }) => {
      const owners = vidLocks.break(keyOf(name, snapshot));
      if (owners.length > 0) return { owners: owners.map(({ peer }) => peer) };
      const what = snapshot === undefined ? "" : `, snapshot "${snapshot}"`;
      throw new KelpieError("not-found", `disk "${name}"${what} is not locked`, {
        remedy: "kelpie vdi lock list shows what is; kelpie vdi info, who has a disk open over NBD",
      });
    },
  };
}

function compare<T extends string | number>(a: T, b: T): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
