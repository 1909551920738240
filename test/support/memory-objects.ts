import type { MemoryFiles } from "../../sim/memory-files.ts";
import {
  decodeInodeEntries,
  decodeInodeHeader,
  encodeInodeEntries,
  encodeInodeHeader,
  type InodeHeader,
} from "../../src/sheepdog/wire-inode.ts";
import type { NewVdi, ObjectId, VdiSelector } from "../../src/vdi/objects/objects.ts";
import { VdiObjects } from "../../src/vdi/objects/vdi-objects.ts";
import type { VdisSettings } from "../../src/vdi/vdis.ts";
import { byteAt, openMemoryVdis } from "./memory-vdis.ts";

/** Disks of a store in memory as Sheepdog's clients see them, with what such a client does. */
export async function openMemoryObjects(
  files?: MemoryFiles,
  settings: Partial<VdisSettings> & { locking?: boolean } = {},
) {
  const { locking = false } = settings;
  const opened = await openMemoryVdis(settings, files);
  const { vdis } = opened;
  const objects = new VdiObjects({ locking }, { vdis });

  async function vidOf(name: string, snapshot?: string | number): Promise<number> {
    return (await objects.lookup(select(name, snapshot))).vid;
  }

  async function header(vid: number) {
    const bytes = Buffer.alloc(4664);
    await objects.read(inodeOf(vid), 0, bytes);
    return decodeInodeHeader(bytes);
  }

  /** Entries of the inode: who owns each object. */
  async function owners(vid: number, count: number, first = 0): Promise<number[]> {
    const bytes = Buffer.alloc(4 * count, 0xee);
    await objects.read(inodeOf(vid), 4664 + 4 * first, bytes);
    return [...decodeInodeEntries(bytes)];
  }

  /** The byte that a range of a data object is filled with; fails if it is a mixture. */
  function dataAt(vid: number, index: number, offset = 0, length = 512): Promise<number> {
    const read = (target: Uint8Array, at: number) => objects.read(dataOf(vid, index), at, target);
    return byteAt({ read }, offset, length);
  }

  /** Writes entries of an inode, from the first one on. */
  async function writeOwners(vid: number, owners: readonly number[], first = 0): Promise<void> {
    const at = 4664 + 4 * first;
    await objects.write(inodeOf(vid), at, [Buffer.from(encodeInodeEntries(owners))]);
  }

  /** Writes the whole header as it is, but for some fields. */
  async function writeHeader(vid: number, fields: Partial<InodeHeader>): Promise<void> {
    const bytes = encodeInodeHeader({ ...(await header(vid)), ...fields });
    await objects.write(inodeOf(vid), 0, [bytes]);
  }

  return { writeOwners, writeHeader, ...opened, objects, vidOf, header, owners, dataAt };
}

/** NEW_VDI as clients send it; what is not given is the store's to choose. */
export function newVdi(name: string, more: Partial<NewVdi> = {}): NewVdi {
  const none = { baseVid: 0, snapshot: false, storePolicy: 0 };
  const settings = { copies: 0, copyPolicy: 0, blockSizeShift: 0 };
  return { name, sizeBytes: 4 * 2 ** 20, ...none, ...settings, ...more };
}

/** "": the working VDI. A number is a snap id. */
export function select(name: string, snapshot: string | number = ""): VdiSelector {
  const snapId = typeof snapshot === "number" ? snapshot : 0;
  return { name, tag: typeof snapshot === "string" ? snapshot : "", snapId };
}

export function inodeOf(vid: number): ObjectId {
  return { kind: "inode", vid, index: 0 };
}

export function dataOf(vid: number, index: number): ObjectId {
  return { kind: "data", vid, index };
}
