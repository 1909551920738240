import { readU32, readU64, writeU32, writeU64 } from "../base/little-endian.ts";

/*
 * A response is 48 bytes, little-endian, and a payload of `data length` bytes. A request with the flag
 * WRITE gets none, nor does one that failed, but for STAT_CLUSTER and OIDS_EXIST.
 *
 *   0  1  0
 *   1  1  opcode of the request
 *   2  2  0
 *   4  4  epoch of the cluster
 *   8  4  id of the request
 *  12  4  data length
 *  16  4  result
 *  20 28  fields of the opcode, zero if there are none
 *
 * VDIs                     Nodes                  Cluster's defaults       Hash
 *  20  4  -                 20  4  nodes           20  1  copies            24 20  SHA-1
 *  24  4  vid               32  8  size in bytes   21  1  copy policy
 *  28  4  attribute's id    40  8  of it free      22  1  block size shift
 *  32  1  copies
 *  33  1  block size shift
 *
 * Objects have copies, a policy and an offset, which nobody looks at.
 */
export const responseBytes = 48;

export interface ResponsePrefix {
  opcode: number;
  epoch: number;
  id: number;
  /** Bytes that follow. */
  dataLength: number;
  result: number;
}

/** Writes the first 20 bytes at `at`, and zeros the fields behind them. */
export function encodeResponsePrefix(
  bytes: Uint8Array,
  at: number,
  prefix: Readonly<ResponsePrefix>,
): void {
  bytes.fill(0, at, at + responseBytes);
  bytes[at + 1] = prefix.opcode;
  writeU32(bytes, at + 4, prefix.epoch);
  writeU32(bytes, at + 8, prefix.id);
  writeU32(bytes, at + 12, prefix.dataLength);
  writeU32(bytes, at + 16, prefix.result);
}

/** Fills an object that the caller keeps: this runs for every response. */
export function decodeResponsePrefix(bytes: Uint8Array, at: number, into: ResponsePrefix): void {
  into.opcode = bytes[at + 1] as number;
  into.epoch = readU32(bytes, at + 4);
  into.id = readU32(bytes, at + 8);
  into.dataLength = readU32(bytes, at + 12);
  into.result = readU32(bytes, at + 16);
}

export interface VdiAnswer {
  /** Of an attribute: the hash of the VDI's name. */
  vid: number;
  attributeId: number;
  copies: number;
  blockSizeShift: number;
}

/** `at` is where the response begins, here and below. */
export function encodeVdiAnswer(bytes: Uint8Array, at: number, answer: Partial<VdiAnswer>): void {
  writeU32(bytes, at + 24, answer.vid ?? 0);
  writeU32(bytes, at + 28, answer.attributeId ?? 0);
  bytes[at + 32] = answer.copies ?? 0;
  bytes[at + 33] = answer.blockSizeShift ?? 0;
}

export function decodeVdiAnswer(bytes: Uint8Array, at: number): VdiAnswer {
  return {
    vid: readU32(bytes, at + 24),
    attributeId: readU32(bytes, at + 28),
    copies: bytes[at + 32] as number,
    blockSizeShift: bytes[at + 33] as number,
  };
}

export interface NodeAnswer {
  nodes: number;
  sizeBytes: number;
  freeBytes: number;
}

export function encodeNodeAnswer(bytes: Uint8Array, at: number, answer: Partial<NodeAnswer>): void {
  writeU32(bytes, at + 20, answer.nodes ?? 0);
  writeU64(bytes, at + 32, answer.sizeBytes ?? 0);
  writeU64(bytes, at + 40, answer.freeBytes ?? 0);
}

export function decodeNodeAnswer(bytes: Uint8Array, at: number): NodeAnswer {
  return {
    nodes: readU32(bytes, at + 20),
    sizeBytes: readU64(bytes, at + 32),
    freeBytes: readU64(bytes, at + 40),
  };
}

export interface ClusterDefault {
  copies: number;
  copyPolicy: number;
  blockSizeShift: number;
}

export function encodeClusterDefault(bytes: Uint8Array, at: number, answer: ClusterDefault): void {
  bytes[at + 20] = answer.copies;
  bytes[at + 21] = answer.copyPolicy;
  bytes[at + 22] = answer.blockSizeShift;
}

export function decodeClusterDefault(bytes: Uint8Array, at: number): ClusterDefault {
  return {
    copies: bytes[at + 20] as number,
    copyPolicy: bytes[at + 21] as number,
    blockSizeShift: bytes[at + 22] as number,
  };
}

const hashBytes = 20;

export function encodeHashAnswer(bytes: Uint8Array, at: number, sha1: Uint8Array): void {
  bytes.set(sha1.subarray(0, hashBytes), at + 24);
}

/** A view, not a copy. */
export function decodeHashAnswer(bytes: Uint8Array, at: number): Uint8Array {
  return bytes.subarray(at + 24, at + 24 + hashBytes);
}
