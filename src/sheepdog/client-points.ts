import type { SheepdogClient } from "./client.ts";
import { isRefused } from "./client-errors.ts";
import { objectCount, type RemoteHeader, readMap } from "./client-inode.ts";
import { Lineage } from "./client-lineage.ts";
import { listPoints } from "./client-list.ts";
import { dataOid, partsOf, vmStateOid } from "./client-objects.ts";
import { result } from "./results.ts";
import type { InodeHeader } from "./wire-inode.ts";

/** A working VDI or a snapshot of a cluster, with its place in the history. */
export interface PointEntry {
  name: string;
  kind: "working" | "snapshot";
  snapId: number;
  /** Empty for the working VDI. */
  tag: string;
  vid: number;
  /** The nearest ancestor that is not deleted; undefined for the first. */
  parent: { vid: number; name: string } | undefined;
  /** Where everything began, deleted or not. */
  rootVid: number;
  sizeBytes: number;
  objectBytes: number;
  /** When the working VDI began, or when the snapshot was taken. */
  createdMs: number;
  /** When it began, as a working VDI. */
  beganMs: number;
  vmStateBytes: number;
  vmClockNs: number;
  copies: number;
  copyPolicy: number;
  /** Its name or tag is not UTF-8. */
  isLatin1: boolean;
  /** A hyper volume, whose data this client does not understand. */
  isHyper: boolean;
}

/** All points of a cluster, by vid. */
export async function describePoints(client: SheepdogClient): Promise<PointEntry[]> {
  const headers = await listPoints(client);
  const names = new Map(headers.map(({ vid, name }) => [vid, name]));
  const parents = new Map(headers.map(({ vid, parentVid }) => [vid, parentVid]));
  const entries: PointEntry[] = [];
  for (const header of headers) {
    const lineage = new Lineage(header.parentVid, { client }, parents);
    const ancestors = await lineage.all();
    const nearest = ancestors.find((vid) => names.has(vid));
    const parent =
      nearest === undefined ? undefined : { vid: nearest, name: names.get(nearest) ?? "" };
    entries.push(describe(header, parent, ancestors.at(-1) ?? header.vid));
  }
  return entries;
}

/** Bytes of objects that are the point's own, and of those it has from others. */
export async function usedBytes(
  client: SheepdogClient,
  point: PointEntry,
): Promise<{ own: number; shared: number }> {
  const used = { own: 0, shared: 0 };
  if (point.isHyper) return used;
  const { vid, objectBytes } = point;
  for (const owner of await readPointEntries(client, point)) {
    if (owner === vid) used.own += objectBytes;
    else if (owner !== 0) used.shared += objectBytes;
  }
  return used;
}

/** The vid whose object it is, for each object of the point; 0: a hole. */
export function readPointEntries(client: SheepdogClient, point: PointEntry): Promise<Uint32Array> {
  const { vid, sizeBytes, objectBytes } = point;
  const count = objectCount({ sizeBytes, blockSizeShift: Math.log2(objectBytes) });
  return readMap(client, vid, count);
}

/** A part of an object that an entry leads to. Fills all of `target`. */
export async function readPointData(
  client: SheepdogClient,
  from: { owner: number; index: number; at: number },
  target: Uint8Array,
): Promise<void> {
  await client.readObject(dataOid(from.owner, from.index), from.at, target);
}

/**
 * Part of a machine's state, which the working VDI's next snapshot keeps. Of each object the beginning
 * comes first: it makes the object.
 */
export async function saveVmState(
  client: SheepdogClient,
  disk: Pick<InodeHeader, "vid" | "blockSizeShift" | "copies" | "copyPolicy">,
  { offset, bytes }: { offset: number; bytes: Uint8Array },
): Promise<void> {
  const { vid, blockSizeShift, copies, copyPolicy } = disk;
  for (const part of partsOf(offset, bytes.length, 2 ** blockSizeShift)) {
    const chunks = [bytes.subarray(part.from, part.from + part.length)];
    const oid = vmStateOid(vid, part.index);
    const write = { oid, offset: part.at, chunks, copies, copyPolicy };
    await (part.at === 0 ? client.createObject(write) : client.writeObject(write));
  }
}

/**
 * Part of the machine's state that the point keeps, which must not reach over the end of an object. What
 * was never written is zeros.
 */
export async function readPointVmState(
  client: SheepdogClient,
  point: PointEntry,
  { offset, target }: { offset: number; target: Uint8Array },
): Promise<void> {
  const at = offset % point.objectBytes;
  const oid = vmStateOid(point.vid, (offset - at) / point.objectBytes);
  try {
    await client.readObject(oid, at, target);
  } catch (error) {
    if (!isRefused(error, result.noObject)) throw error;
    target.fill(0);
  }
}

function describe(header: RemoteHeader, parent: PointEntry["parent"], rootVid: number): PointEntry {
  const isSnapshot = header.snapshotMs !== 0;
  return {
    name: header.name,
    kind: isSnapshot ? "snapshot" : "working",
    snapId: header.snapId,
    tag: isSnapshot ? header.tag : "",
    vid: header.vid,
    parent,
    rootVid,
    sizeBytes: header.sizeBytes,
    objectBytes: 2 ** header.blockSizeShift,
    createdMs: isSnapshot ? header.snapshotMs : header.createdMs,
    beganMs: header.createdMs,
    vmStateBytes: header.vmStateBytes,
    vmClockNs: header.vmClockNs,
    copies: header.copies,
    copyPolicy: header.copyPolicy,
    isLatin1: header.isLatin1 === true,
    isHyper: header.storePolicy !== 0,
  };
}
