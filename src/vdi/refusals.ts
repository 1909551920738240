import { KelpieError } from "../base/errors.ts";
import { arrayObjectsMax, objectBytes } from "./objects/object-size.ts";
import type { Vid } from "./objects/vid-table.ts";

/** Why an operation on disks is refused, and what can be done about it. */

export function mustDiffer(names: readonly string[]): void {
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new KelpieError("invalid", `disk "${twice}" is named twice`);
}

export function belongsToVm(
  what: string,
  owner: { vm: string; snapshot: { id: number; tag: string } },
): KelpieError {
  const { vm, snapshot } = owner;
  return new KelpieError("busy", `${what} is a part of VM "${vm}"'s snapshot "${snapshot.tag}"`, {
    remedy: `kelpie vm delvm ${vm} ${snapshot.tag} deletes all of it.`,
  });
}

export function isOfVm(name: string, vm: string): KelpieError {
  return new KelpieError("busy", `disk "${name}" is one of VM "${vm}"`, {
    remedy: `kelpie vm delete ${vm} gives it up; its disks stay.`,
  });
}

export function isInUse(name: string, clients: number): KelpieError {
  return new KelpieError("busy", `disk "${name}" is in use by ${clientsText(clients)}`, {
    remedy: "Disconnect them, or use --live if what runs on it can bear the change.",
  });
}

export function isBeingPurged(name: string): KelpieError {
  return new KelpieError("busy", `what is discarded of "${name}" is being purged`);
}

export function sizeWouldChange(name: string): KelpieError {
  return new KelpieError("busy", `disk "${name}" is in use and its size would change`, {
    remedy: "Disconnect its clients first.",
  });
}

export function wouldMixHistories(name: string): KelpieError {
  return new KelpieError("busy", `disk "${name}" is in use over Sheepdog, which knows no change`, {
    remedy: "Disconnect those clients, or roll back with them: they open the new disk.",
  });
}

/** A disk that Sheepdog's clients know has objects of one size for ever, and so many of them. */
export function mustFitObjects(
  name: string,
  disk: { sizeBytes: number; vid: Vid | undefined },
): void {
  const { sizeBytes, vid } = disk;
  if (vid === undefined || vid.storePolicy !== 0) return;
  const max = arrayObjectsMax * objectBytes(vid);
  if (sizeBytes <= max) return;
  throw new KelpieError("invalid", `disk "${name}" can have ${max} bytes, not ${sizeBytes}`, {
    remedy: `Sheepdog's clients know it, with 2^20 objects of ${objectBytes(vid)} bytes at most.`,
  });
}

export function cannotWhileUsed(
  what: string,
  used: { name: string; snapId: number | undefined; clients: number },
): KelpieError {
  const { name, snapId, clients } = used;
  const whole = snapId === undefined ? `disk "${name}"` : `snapshot ${snapId} of "${name}"`;
  return new KelpieError("busy", `cannot ${what} ${whole}: in use by ${clientsText(clients)}`, {
    remedy: `Disconnect them first; \`kelpie vdi info ${name}\` lists them.`,
  });
}

export function writtenMeanwhile(name: string): KelpieError {
  return new KelpieError("busy", `disk "${name}" was written while it was being flattened`, {
    remedy: "Do it again when nobody uses the disk.",
  });
}

function clientsText(count: number): string {
  return count === 1 ? "1 client" : `${count} clients`;
}
