import { KelpieError } from "../base/errors.ts";
import { readU16, readU32, readU64, writeU16, writeU32, writeU64 } from "../base/little-endian.ts";
import { type ClusterNode, decodeNodes, encodeNodes, nodeBytes, nodesMax } from "./wire-node.ts";
import { decodeText, encodeText } from "./wire-text.ts";
import { decodeTime, encodeTime } from "./wire-time.ts";

/*
 * Little-endian.
 *
 * Record of an epoch                      Cluster
 *   0  8  creation of the cluster          0  1  protocol version
 *   8  8  the epoch's begin, in seconds    1  1  recovery is disabled
 *  16  4  epoch                            2  2  number of nodes
 *  20  4  number of nodes                  4  4  epoch
 *  24  1  recovery is disabled             8  8  creation of the cluster; 0: not formatted
 *  25  1  copies                          16  2  flags of the cluster
 *  26  1  copy policy                     18  1  copies
 *  27  3  -                               19  1  copy policy
 *  30  2  flags of the cluster            20  1  status: 1 fine, 2 waits, 3 shuts down, 4 killed
 *  32 16  kind of store                   21  1  block size shift
 *  48     nodes                           22  3  -
 *                                         25 16  kind of store
 *                                         41  7  -
 *                                         48     room for 6,144 nodes
 *
 * What is marked with - is zero when written and not looked at when read. STAT_CLUSTER answers with
 * records, the newest first, each with room for as many nodes as the request says; only the first has
 * more than epoch, time and nodes.
 */
export const epochHeaderBytes = 48;
const clusterHeaderBytes = 48;
export const clusterInfoBytes = clusterHeaderBytes + nodesMax * nodeBytes;
const storeNameBytes = 16;

export interface EpochRecord {
  clusterCreatedMs: number;
  /** Whole seconds on the wire. */
  timeMs: number;
  epoch: number;
  recoveryDisabled: boolean;
  copies: number;
  copyPolicy: number;
  clusterFlags: number;
  storeName: string;
  nodes: ClusterNode[];
}

/** With room for `nodesRoom` nodes, which must be enough. */
export function encodeEpoch(record: EpochRecord, nodesRoom: number): Uint8Array {
  const bytes = new Uint8Array(epochHeaderBytes + nodeBytes * nodesRoom);
  encodeTime(bytes, 0, record.clusterCreatedMs);
  writeU64(bytes, 8, Math.floor(record.timeMs / 1000));
  writeU32(bytes, 16, record.epoch);
  writeU32(bytes, 20, record.nodes.length);
  bytes[24] = record.recoveryDisabled ? 1 : 0;
  bytes[25] = record.copies;
  bytes[26] = record.copyPolicy;
  writeU16(bytes, 30, record.clusterFlags);
  encodeText(bytes, 32, record.storeName, storeNameBytes);
  bytes.set(encodeNodes(record.nodes), epochHeaderBytes);
  return bytes;
}

/** Records with room for `nodesRoom` nodes each. Throws "invalid" if there is part of one. */
export function decodeEpochs(bytes: Uint8Array, nodesRoom: number): EpochRecord[] {
  const recordBytes = epochHeaderBytes + nodeBytes * nodesRoom;
  if (bytes.length % recordBytes !== 0) {
    throw new KelpieError("invalid", `records of epochs in ${bytes.length} bytes`);
  }
  return Array.from({ length: bytes.length / recordBytes }, (_, index) =>
    decodeEpoch(bytes.subarray(recordBytes * index, recordBytes * (index + 1))),
  );
}

function decodeEpoch(bytes: Uint8Array): EpochRecord {
  return {
    clusterCreatedMs: decodeTime(bytes, 0),
    timeMs: readU64(bytes, 8) * 1000,
    epoch: readU32(bytes, 16),
    recoveryDisabled: bytes[24] !== 0,
    copies: bytes[25] as number,
    copyPolicy: bytes[26] as number,
    clusterFlags: readU16(bytes, 30),
    storeName: decodeText(bytes, 32, storeNameBytes),
    nodes: decodeNodes(bytes.subarray(epochHeaderBytes), readU32(bytes, 20)),
  };
}

export const clusterStatus = { fine: 1, waiting: 2, shuttingDown: 3, killed: 4 } as const;

export interface ClusterInfo {
  protocolVersion: number;
  recoveryDisabled: boolean;
  epoch: number;
  /** 0: not formatted. */
  createdMs: number;
  clusterFlags: number;
  copies: number;
  copyPolicy: number;
  status: number;
  blockSizeShift: number;
  storeName: string;
  nodes: ClusterNode[];
}

export function encodeClusterInfo(info: ClusterInfo): Uint8Array {
  const bytes = new Uint8Array(clusterInfoBytes);
  bytes[0] = info.protocolVersion;
  bytes[1] = info.recoveryDisabled ? 1 : 0;
  writeU16(bytes, 2, info.nodes.length);
  writeU32(bytes, 4, info.epoch);
  encodeTime(bytes, 8, info.createdMs);
  writeU16(bytes, 16, info.clusterFlags);
  bytes[18] = info.copies;
  bytes[19] = info.copyPolicy;
  bytes[20] = info.status;
  bytes[21] = info.blockSizeShift;
  encodeText(bytes, 25, info.storeName, storeNameBytes);
  bytes.set(encodeNodes(info.nodes), clusterHeaderBytes);
  return bytes;
}

/** Throws "invalid" for what is too short. */
export function decodeClusterInfo(bytes: Uint8Array): ClusterInfo {
  if (bytes.length < clusterHeaderBytes) {
    throw new KelpieError("invalid", `a cluster's state of ${bytes.length} bytes`);
  }
  return {
    protocolVersion: bytes[0] as number,
    recoveryDisabled: bytes[1] !== 0,
    epoch: readU32(bytes, 4),
    createdMs: decodeTime(bytes, 8),
    clusterFlags: readU16(bytes, 16),
    copies: bytes[18] as number,
    copyPolicy: bytes[19] as number,
    status: bytes[20] as number,
    blockSizeShift: bytes[21] as number,
    storeName: decodeText(bytes, 25, storeNameBytes),
    nodes: decodeNodes(bytes.subarray(clusterHeaderBytes), readU16(bytes, 2)),
  };
}
