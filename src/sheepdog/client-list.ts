import type { SheepdogClient } from "./client.ts";
import { readClusterInfo } from "./client-cluster.ts";
import { isRefused } from "./client-errors.ts";
import { type RemoteHeader, readHeader } from "./client-inode.ts";
import { headersAtOnce } from "./client-limits.ts";
import { eachOf } from "./client-objects.ts";
import { result } from "./results.ts";
import { vdiNameHash } from "./wire-hash.ts";
import { vidsMax } from "./wire-oid.ts";
import { clusterFlag } from "./wire-opcodes.ts";

/** All points of a cluster that are not deleted, by vid. As `dog` finds them. */
export async function listPoints(client: SheepdogClient): Promise<RemoteHeader[]> {
  const inUse = await client.readVdis();
  const deleted = await client.readDeletedVdis();
  return readHeaders(client, vidsOf(inUse, deleted));
}

/** The points of one name, by snap id: snapshots, and then the working VDI if there is one. */
export async function listPointsOf(client: SheepdogClient, name: string): Promise<RemoteHeader[]> {
  const inUse = await client.readVdis();
  const deleted = await client.readDeletedVdis();
  const info = await readClusterInfo(client);
  // Where vids are used again they have nothing to do with names.
  const isAnywhere = ((info?.clusterFlags ?? 0) & clusterFlag.recycleVid) !== 0;
  const vids = isAnywhere ? vidsOf(inUse, deleted) : runOf(name, inUse, deleted);
  const headers = await readHeaders(client, vids);
  return headers.filter((header) => header.name === name).sort((a, b) => a.snapId - b.snapId);
}

async function readHeaders(
  client: SheepdogClient,
  vids: Iterable<number>,
): Promise<RemoteHeader[]> {
  const headers: RemoteHeader[] = [];
  await eachOf(vids, headersAtOnce, async (vid) => {
    try {
      const header = await readHeader(client, vid);
      if (header.name !== "") headers.push(header);
    } catch (error) {
      if (!isRefused(error, result.noObject)) throw error; // deleted since
    }
  });
  return headers.sort((a, b) => a.vid - b.vid);
}

function* vidsOf(inUse: Uint8Array, deleted: Uint8Array): Generator<number> {
  const words = new DataView(inUse.buffer, inUse.byteOffset, inUse.length);
  for (let at = 0; at < inUse.length; at += 4) {
    // Nearly all of half a million.
    if (words.getUint32(at) === 0) continue;
    for (let vid = 8 * at; vid < 8 * at + 32; vid++) {
      if (hasBit(inUse, vid) && !hasBit(deleted, vid)) yield vid;
    }
  }
}

/** The vids from a name's hash up to the first one that was never used, round the end. */
function* runOf(name: string, inUse: Uint8Array, deleted: Uint8Array): Generator<number> {
  const first = vdiNameHash(name) || 1;
  let vid = first;
  do {
    if (!hasBit(inUse, vid)) return;
    if (!hasBit(deleted, vid)) yield vid;
    vid = vid + 1 === vidsMax ? 1 : vid + 1;
  } while (vid !== first);
}

function hasBit(bitmap: Uint8Array, vid: number): boolean {
  return ((bitmap[vid >> 3] ?? 0) & (1 << (vid & 7))) !== 0;
}
