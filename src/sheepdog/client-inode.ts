import { KelpieError } from "../base/errors.ts";
import type { SheepdogClient } from "./client.ts";
import { entriesPerRead } from "./client-limits.ts";
import {
  decodeInodeEntries,
  decodeInodeHeader,
  type InodeHeader,
  inodeEntriesAt,
} from "./wire-inode.ts";
import { inodeOid } from "./wire-oid.ts";
import { blockSizeShift, dataObjectsMax } from "./wire-opcodes.ts";
import { decodeLatin1Text } from "./wire-text.ts";

/** What of a header has a meaning; the vids of children behind it have none any more. */
const headerReadBytes = 572;

/** `isLatin1`: its name or tag is not UTF-8; the original takes any. */
export type RemoteHeader = InodeHeader & { isLatin1?: boolean };

export async function readHeader(client: SheepdogClient, vid: number): Promise<RemoteHeader> {
  const bytes = new Uint8Array(headerReadBytes);
  await client.readObject(inodeOid(vid), 0, bytes);
  const header = decodeAny(bytes);
  // Servers before block sizes could be chosen have 0 here.
  if (header.blockSizeShift === 0) header.blockSizeShift = blockSizeShift.default;
  return header;
}

function decodeAny(bytes: Uint8Array): RemoteHeader {
  try {
    return decodeInodeHeader(bytes);
  } catch {
    return { ...decodeInodeHeader(bytes, decodeLatin1Text), isLatin1: true }; // refuses nothing
  }
}

/** For a point whose data is wanted. */
export function checkHeader(header: InodeHeader, vid: number): InodeHeader {
  const { blockSizeShift: shift, name, sizeBytes } = header;
  const what = `VDI ${vid.toString(16)} ("${name}")`;
  if (header.storePolicy !== 0) {
    throw new KelpieError("unsupported", `${what} is a hyper volume, which Kelpie cannot open`);
  }
  const isSane =
    header.vid === vid &&
    name !== "" &&
    shift >= blockSizeShift.min &&
    shift <= blockSizeShift.max &&
    sizeBytes <= dataObjectsMax * 2 ** shift;
  if (isSane) return header;
  throw new KelpieError("io", `${what}: its inode makes no sense`);
}

/** A point and its map. */
export interface RemotePoint {
  header: InodeHeader;
  /** The vid whose object it is, for each object of the disk; 0: a hole. */
  entries: Uint32Array;
}

/** Throws "not-found" if it is deleted, also if that happens meanwhile. */
export async function readPoint(client: SheepdogClient, vid: number): Promise<RemotePoint> {
  const header = await readHeader(client, vid);
  mustBeNamed(header, vid);
  checkHeader(header, vid);
  return { header, entries: await readMap(client, vid, objectCount(header)) };
}

/** All entries of a point that was there when its header was read: of what is deleted all read as holes. */
export async function readMap(
  client: SheepdogClient,
  vid: number,
  count: number,
): Promise<Uint32Array> {
  const entries = await readEntries(client, vid, { first: 0, count });
  mustBeNamed(await readHeader(client, vid), vid);
  return entries;
}

/** What is deleted has no name any more. */
function mustBeNamed({ name }: InodeHeader, vid: number): void {
  if (name !== "") return;
  throw new KelpieError("not-found", `VDI ${vid.toString(16)} was deleted while it was read`);
}

/** Objects of a disk. */
export function objectCount(header: Pick<InodeHeader, "sizeBytes" | "blockSizeShift">): number {
  return Math.ceil(header.sizeBytes / 2 ** header.blockSizeShift);
}

/** `data_vdi_id[first]` to `[first + count - 1]`. */
export async function readEntries(
  client: SheepdogClient,
  vid: number,
  { first, count }: { first: number; count: number },
): Promise<Uint32Array> {
  const entries = new Uint32Array(count);
  for (let done = 0; done < count; done += entriesPerRead) {
    const some = Math.min(entriesPerRead, count - done);
    const bytes = new Uint8Array(4 * some);
    await client.readObject(inodeOid(vid), inodeEntriesAt + 4 * (first + done), bytes);
    entries.set(decodeInodeEntries(bytes), done);
  }
  return entries;
}
