import { KelpieError } from "../base/errors.ts";
import type { SheepdogClient } from "./client.ts";
import { isRefused, LostAnswerError } from "./client-errors.ts";
import { readHeader } from "./client-inode.ts";
import { resentMax } from "./client-limits.ts";
import { result } from "./results.ts";
import type { InodeHeader } from "./wire-inode.ts";

/** What a new working VDI has besides its name. */
export type NewPoint = Pick<
  InodeHeader,
  "sizeBytes" | "copies" | "copyPolicy" | "storePolicy" | "blockSizeShift"
> & {
  /** The point it stands on; 0: none. */
  baseVid: number;
};

/**
 * Makes a working VDI where the name has none: create, clone, and the second half of a rollback. When the
 * answer is lost it looks whether the VDI is there. Throws "exists".
 */
export async function makeWorking(
  client: SheepdogClient,
  name: string,
  point: NewPoint,
): Promise<number> {
  const before = await workingVid(client, name);
  if (before !== undefined) throw new KelpieError("exists", `there is a disk "${name}" already`);
  for (let attempt = 1; ; attempt++) {
    try {
      return (await client.newVdi(name, { ...point, snapId: 0 })).vid;
    } catch (error) {
      const mayBeOurs =
        error instanceof LostAnswerError || (attempt > 1 && isRefused(error, result.vdiExists));
      if (!mayBeOurs) throw error;
      const vid = await workingVid(client, name);
      if (vid !== undefined) {
        const { parentVid, sizeBytes } = await readHeader(client, vid);
        if (parentVid === point.baseVid && sizeBytes === point.sizeBytes) return vid;
        throw new KelpieError("exists", `somebody else made a disk "${name}" just now`);
      }
      if (attempt === resentMax) throw error;
    }
  }
}

/**
 * Freezes a working VDI; returns the vid of the one that goes on. The request is not sent twice: on a
 * working VDI that is new already it would mean something else.
 */
export async function makeSnapshot(client: SheepdogClient, header: InodeHeader): Promise<number> {
  const { name, vid } = header;
  try {
    return (await client.newVdi(name, { ...header, baseVid: vid, snapId: 1 })).vid;
  } catch (error) {
    if (!(error instanceof LostAnswerError)) throw error;
    const now = await workingVid(client, name);
    const isDone = now !== undefined && now !== vid;
    if (isDone && (await readHeader(client, now)).parentVid === vid) return now;
    throw new KelpieError("io", `disk "${name}": the snapshot was not taken: ${error.message}`, {
      cause: error,
      remedy: "try again",
    });
  }
}

export async function workingVid(
  client: SheepdogClient,
  name: string,
): Promise<number | undefined> {
  try {
    return (await client.lookup({ name })).vid;
  } catch (error) {
    if (isRefused(error, result.noVdi)) return undefined;
    throw error;
  }
}
