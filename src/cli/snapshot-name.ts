import type { Command } from "commander";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Control } from "../control/calls.ts";
import { printable } from "./text.ts";

/** A point of a disk's history, as calls take it. */
export interface NamedPoint {
  name: string;
  snapshot?: string;
}

/**
 * What `NAME -s TAG` or `NAME@TAG` means. A disk may have an @ in its name: the whole name is tried
 * first, as it is when an export is opened.
 */
export async function findPoint(
  control: Control,
  name: string,
  snapshot: string | undefined,
): Promise<NamedPoint> {
  if (snapshot !== undefined) return { name, snapshot: checkSnapshot(snapshot) };
  const parts = splitName(name);
  if (parts === undefined) return { name };
  try {
    await control.call("vdi.list", { name });
    return { name };
  } catch (error) {
    if (!isKelpieError(error, "not-found")) throw error;
    return { name: parts.name, snapshot: checkSnapshot(parts.snapshot) };
  }
}

/** "disk1@snap1" in its parts; undefined for a name that cannot be a disk's and a snapshot's. */
export function splitName(name: string): Required<NamedPoint> | undefined {
  const at = name.lastIndexOf("@");
  if (at <= 0 || at === name.length - 1) return undefined;
  return { name: name.slice(0, at), snapshot: name.slice(at + 1) };
}

/** The rules of dog's -s: a number is a snap id, and ids begin at 1. */
export function checkSnapshot(selector: string): string {
  if (selector === "") throw new KelpieError("invalid", "the snapshot's tag is empty");
  if (/^#?0+$/.test(selector)) {
    throw new KelpieError("invalid", `snapshot ${selector}: ids begin at 1`);
  }
  return selector;
}

/** Where a command takes disks only, an unknown `disk1@snap1` is taken for a snapshot by mistake. */
export function hintAtSnapshot(error: unknown, command: Command): unknown {
  if (!isKelpieError(error, "not-found")) return error;
  const names = command.args.filter((name) => error.message.includes(name));
  const parts = names.map(splitName).find((found) => found !== undefined);
  if (parts === undefined) return error;
  const [disk, snapshot] = [printable(parts.name), printable(parts.snapshot)];
  const takesOne = command.options.some(({ long }) => long === "--snapshot");
  const remedy = takesOne
    ? `a snapshot is named apart from its disk: ${disk}, use -s ${snapshot}`
    : `this works on disks, not on snapshots: use ${disk}`;
  return new KelpieError(error.code, error.message, { cause: error, remedy });
}
