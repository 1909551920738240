import { readU32, readU64, writeU32, writeU64 } from "../base/little-endian.ts";
import { decodeText, encodeText, nameBytes } from "./wire-text.ts";
import { decodeTime, encodeTime } from "./wire-time.ts";

/*
 * A VDI's inode, little-endian
 *
 *        0      256  name, padded with zeros; empty: deleted
 *      256      256  tag of the snapshot; need not end with a zero byte
 *      512        8  time of creation
 *      520        8  time of the snapshot; 0: the working VDI
 *      528        8  the virtual machine's clock at the snapshot, in nanoseconds
 *      536        8  size of the disk in bytes
 *      544        8  size of the saved state of the machine in bytes
 *      552        1  copy policy
 *      553        1  store policy; 1: a hyper volume
 *      554        1  copies
 *      555        1  block size shift
 *      556        4  snap id
 *      560        4  vid
 *      564        4  vid of the parent; 0: none
 *      568        4  number of B-tree nodes (QEMU and up to 0.8: the first of 1,024 vids of children)
 *      572     4092  -
 *     4664  4194304  data_vdi_id: for each object of the disk the vid whose object it is; 0: a hole
 *  4198968  8388608  references: {generation, count} for each object
 *
 * What is marked with - is zero when written and not looked at when read. Clients know inodes of three
 * sizes; the references are the server's own.
 */
export const inodeHeaderBytes = 4664;
/** Where the entry of object i is: `inodeEntriesAt + 4 * i`. */
export const inodeEntriesAt = inodeHeaderBytes;
/** As QEMU and servers up to 0.7 have it. Servers of 0.8 had 8 more. */
export const inodeBytes = 4_198_968;
/** As `dog` and the newest servers have it. */
export const inodeBytesMax = 12_587_576;

/** Where clients write one field. */
export const inodeFieldAt = { tag: 256, vmStateBytes: 544, vmClock: 528, size: 536 } as const;

export interface InodeHeader {
  name: string;
  tag: string;
  createdMs: number;
  /** 0: the working VDI. */
  snapshotMs: number;
  /** Above 2^53 (104 days) rounded. */
  vmClockNs: number;
  sizeBytes: number;
  vmStateBytes: number;
  copyPolicy: number;
  storePolicy: number;
  copies: number;
  blockSizeShift: number;
  snapId: number;
  vid: number;
  parentVid: number;
  btreeNodes: number;
}

export function encodeInodeHeader(inode: InodeHeader): Uint8Array {
  const bytes = new Uint8Array(inodeHeaderBytes);
  encodeText(bytes, 0, inode.name, nameBytes);
  encodeText(bytes, 256, inode.tag, nameBytes);
  encodeTime(bytes, 512, inode.createdMs);
  encodeTime(bytes, 520, inode.snapshotMs);
  writeU64(bytes, 528, inode.vmClockNs);
  writeU64(bytes, 536, inode.sizeBytes);
  writeU64(bytes, 544, inode.vmStateBytes);
  bytes[552] = inode.copyPolicy;
  bytes[553] = inode.storePolicy;
  bytes[554] = inode.copies;
  bytes[555] = inode.blockSizeShift;
  writeU32(bytes, 556, inode.snapId);
  writeU32(bytes, 560, inode.vid);
  writeU32(bytes, 564, inode.parentVid);
  writeU32(bytes, 568, inode.btreeNodes);
  return bytes;
}

/**
 * Of at least the first 572 bytes. `text` decodes a name or tag; else text that is not UTF-8 is thrown as
 * "invalid".
 */
export function decodeInodeHeader(bytes: Uint8Array, text = decodeText): InodeHeader {
  return {
    name: text(bytes, 0, nameBytes),
    tag: text(bytes, 256, nameBytes),
    createdMs: decodeTime(bytes, 512),
    snapshotMs: decodeTime(bytes, 520),
    vmClockNs: readU64(bytes, 528),
    sizeBytes: readU64(bytes, 536),
    vmStateBytes: readU64(bytes, 544),
    copyPolicy: bytes[552] as number,
    storePolicy: bytes[553] as number,
    copies: bytes[554] as number,
    blockSizeShift: bytes[555] as number,
    snapId: readU32(bytes, 556),
    vid: readU32(bytes, 560),
    parentVid: readU32(bytes, 564),
    btreeNodes: readU32(bytes, 568),
  };
}

/** Entries of data_vdi_id, as they are in an inode. */
export function encodeInodeEntries(vids: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(4 * vids.length);
  for (let index = 0; index < vids.length; index++) writeU32(bytes, 4 * index, vids[index] ?? 0);
  return bytes;
}

/** Whole entries; what is left over at the end is not looked at. */
export function decodeInodeEntries(bytes: Uint8Array): Uint32Array {
  const vids = new Uint32Array(Math.floor(bytes.length / 4));
  for (let index = 0; index < vids.length; index++) vids[index] = readU32(bytes, 4 * index);
  return vids;
}
