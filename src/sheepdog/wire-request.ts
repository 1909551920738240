import { readU16, readU32, readU64, writeU16, writeU32, writeU64 } from "../base/little-endian.ts";
import { decodeOid, encodeOid, type Oid } from "./wire-oid.ts";

/*
 * A request is 48 bytes, little-endian, and a payload of `data length` bytes if the flag WRITE is set.
 * Without it, data length is how much the client is ready to take.
 *
 *   0  1  protocol version
 *   1  1  opcode
 *   2  2  flags
 *   4  4  epoch
 *   8  4  id, which the response repeats
 *  12  4  data length
 *  16 32  fields of the opcode
 *
 * Objects                       VDIs                         Clusters
 *  16  8  oid                    16  8  size in bytes         16  8  oid (unused)
 *  24  8  oid to copy from       24  4  vid of the base       24  8  creation time
 *  32  1  copies                 28  1  copies                32  1  copies
 *  33  1  copy policy            29  1  copy policy           33  1  copy policy
 *  34  1  strip of erasure code  30  1  store policy          34  2  flags of the cluster
 *  35  1  -                      31  1  block size shift      36  4  tag (unused)
 *  36  4  epoch that is meant    32  4  snap id               40  4  number of nodes
 *  40  4  offset                 36  4  kind of lock          44  1  block size shift
 *  44  4  -                      40  8  -                     45  3  -
 *
 * VDI state                     Reference       Source of a repair
 *  16  4  old vid                16  8  oid      16  8  oid
 *  20  4  new vid                24  4  gener.   24 16  address
 *  24  1  copies                 28  4  count    40  2  port
 *  25  1  set bitmap
 *  26  1  copy policy
 *  27  1  block size shift
 *
 * What is marked with - is zero when written and not looked at when read, as are fields that no opcode
 * served or sent here uses; QEMU has the offset with 64 bits, which is the same below 4 GiB.
 */
export const requestBytes = 48;
const fieldsAt = 16;

export interface RequestPrefix {
  protocolVersion: number;
  opcode: number;
  flags: number;
  epoch: number;
  id: number;
  /** Bytes that follow, or that the client is ready to take. */
  dataLength: number;
}

export function encodeRequestPrefix(bytes: Uint8Array, prefix: RequestPrefix): void {
  bytes[0] = prefix.protocolVersion;
  bytes[1] = prefix.opcode;
  writeU16(bytes, 2, prefix.flags);
  writeU32(bytes, 4, prefix.epoch);
  writeU32(bytes, 8, prefix.id);
  writeU32(bytes, 12, prefix.dataLength);
}

/** Fills an object that the caller keeps: this runs for every request. */
export function decodeRequestPrefix(bytes: Uint8Array, at: number, into: RequestPrefix): void {
  into.protocolVersion = bytes[at] as number;
  into.opcode = bytes[at + 1] as number;
  into.flags = readU16(bytes, at + 2);
  into.epoch = readU32(bytes, at + 4);
  into.id = readU32(bytes, at + 8);
  into.dataLength = readU32(bytes, at + 12);
}

/** A request without fields of its own. */
export function encodePlainRequest(prefix: RequestPrefix): Uint8Array {
  const bytes = new Uint8Array(requestBytes);
  encodeRequestPrefix(bytes, prefix);
  return bytes;
}

export interface ObjectFields {
  /** Undefined: it names nothing. */
  oid: Oid | undefined;
  /** To copy from, if the flag copyOnWrite is set. */
  copyFrom: Oid | undefined;
  copies: number;
  copyPolicy: number;
  /** In the object, in bytes. */
  offset: number;
}

export function encodeObjectRequest(
  prefix: RequestPrefix,
  fields: Partial<ObjectFields> & { oid: Oid },
): Uint8Array {
  const bytes = encodePlainRequest(prefix);
  encodeOid(bytes, fieldsAt, fields.oid);
  if (fields.copyFrom !== undefined) encodeOid(bytes, 24, fields.copyFrom);
  bytes[32] = fields.copies ?? 0;
  bytes[33] = fields.copyPolicy ?? 0;
  writeU32(bytes, 40, fields.offset ?? 0);
  return bytes;
}

/** `at` is where the request begins, here and below. */
export function decodeObjectFields(bytes: Uint8Array, at: number): ObjectFields {
  return {
    oid: decodeOid(bytes, at + fieldsAt),
    copyFrom: decodeOid(bytes, at + 24),
    copies: bytes[at + 32] as number,
    copyPolicy: bytes[at + 33] as number,
    offset: readU32(bytes, at + 40),
  };
}

export interface VdiFields {
  sizeBytes: number;
  /** Of NEW_VDI; of RELEASE_VDI the vid to release. */
  baseVid: number;
  copies: number;
  copyPolicy: number;
  /** 1: a hyper volume. */
  storePolicy: number;
  /** 0: the cluster's. */
  blockSizeShift: number;
  /** 0: the working VDI. */
  snapId: number;
  /** 0: normal, 1: shared. */
  lockType: number;
}

export function encodeVdiRequest(prefix: RequestPrefix, fields: Partial<VdiFields>): Uint8Array {
  const bytes = encodePlainRequest(prefix);
  writeU64(bytes, fieldsAt, fields.sizeBytes ?? 0);
  writeU32(bytes, 24, fields.baseVid ?? 0);
  bytes[28] = fields.copies ?? 0;
  bytes[29] = fields.copyPolicy ?? 0;
  bytes[30] = fields.storePolicy ?? 0;
  bytes[31] = fields.blockSizeShift ?? 0;
  writeU32(bytes, 32, fields.snapId ?? 0);
  writeU32(bytes, 36, fields.lockType ?? 0);
  return bytes;
}

/** A size above 2^53 is rounded: it is larger than every disk. */
export function decodeVdiFields(bytes: Uint8Array, at: number): VdiFields {
  return {
    sizeBytes: readU64(bytes, at + fieldsAt),
    baseVid: readU32(bytes, at + 24),
    copies: bytes[at + 28] as number,
    copyPolicy: bytes[at + 29] as number,
    storePolicy: bytes[at + 30] as number,
    blockSizeShift: bytes[at + 31] as number,
    snapId: readU32(bytes, at + 32),
    lockType: readU32(bytes, at + 36),
  };
}

export interface ClusterFields {
  copies: number;
  copyPolicy: number;
  clusterFlags: number;
  /** How many nodes an epoch in the answer may have. */
  nodes: number;
  blockSizeShift: number;
}

export function encodeClusterRequest(
  prefix: RequestPrefix,
  fields: Partial<ClusterFields>,
): Uint8Array {
  const bytes = encodePlainRequest(prefix);
  bytes[32] = fields.copies ?? 0;
  bytes[33] = fields.copyPolicy ?? 0;
  writeU16(bytes, 34, fields.clusterFlags ?? 0);
  writeU32(bytes, 40, fields.nodes ?? 0);
  bytes[44] = fields.blockSizeShift ?? 0;
  return bytes;
}

export function decodeClusterFields(bytes: Uint8Array, at: number): ClusterFields {
  return {
    copies: bytes[at + 32] as number,
    copyPolicy: bytes[at + 33] as number,
    clusterFlags: readU16(bytes, at + 34),
    nodes: readU32(bytes, at + 40),
    blockSizeShift: bytes[at + 44] as number,
  };
}

export interface VdiStateFields {
  oldVid: number;
  newVid: number;
  copies: number;
  setBitmap: boolean;
  copyPolicy: number;
  blockSizeShift: number;
}

export function encodeVdiStateRequest(
  prefix: RequestPrefix,
  fields: Partial<VdiStateFields>,
): Uint8Array {
  const bytes = encodePlainRequest(prefix);
  writeU32(bytes, fieldsAt, fields.oldVid ?? 0);
  writeU32(bytes, 20, fields.newVid ?? 0);
  bytes[24] = fields.copies ?? 0;
  bytes[25] = fields.setBitmap === true ? 1 : 0;
  bytes[26] = fields.copyPolicy ?? 0;
  bytes[27] = fields.blockSizeShift ?? 0;
  return bytes;
}

export function decodeVdiStateFields(bytes: Uint8Array, at: number): VdiStateFields {
  return {
    oldVid: readU32(bytes, at + fieldsAt),
    newVid: readU32(bytes, at + 20),
    copies: bytes[at + 24] as number,
    setBitmap: bytes[at + 25] !== 0,
    copyPolicy: bytes[at + 26] as number,
    blockSizeShift: bytes[at + 27] as number,
  };
}
