import { KelpieError } from "../base/errors.ts";
import { readU32, writeU32 } from "../base/little-endian.ts";
import { decodeNodeId, encodeNodeId, type NodeId, nodeIdBytes } from "./wire-node.ts";

/*
 * What the cluster knows of a VDI, little-endian; GET_VDI_COPIES answers with a list of these.
 *
 *    0    4  vid
 *    4    1  copies
 *    5    1  it is a snapshot
 *    6    1  it is deleted
 *    7    1  copy policy
 *    8    1  block size shift
 *    9    3  -
 *   12    4  vid of the parent
 *   16    4  lock: 1 none, 2 locked, 3 shared
 *   20   40  id of the node that has the lock
 *   60    4  number of nodes that share it
 *   64  124  31 x 4: state of each: 1 has written, 2 shares, 3 must read anew
 *  188 1240  31 x 40: their ids
 */
export const vdiStateBytes = 1428;
export const participantsMax = 31;

export const lockState = { none: 1, locked: 2, shared: 3 } as const;

export interface WireVdiState {
  vid: number;
  copies: number;
  snapshot: boolean;
  deleted: boolean;
  copyPolicy: number;
  blockSizeShift: number;
  parentVid: number;
  lockState: number;
  /** Undefined: nobody. */
  lockOwner: NodeId | undefined;
  participants: { node: NodeId; state: number }[];
}

export function encodeVdiState(bytes: Uint8Array, at: number, state: WireVdiState): void {
  bytes.fill(0, at, at + vdiStateBytes);
  writeU32(bytes, at, state.vid);
  bytes[at + 4] = state.copies;
  bytes[at + 5] = state.snapshot ? 1 : 0;
  bytes[at + 6] = state.deleted ? 1 : 0;
  bytes[at + 7] = state.copyPolicy;
  bytes[at + 8] = state.blockSizeShift;
  writeU32(bytes, at + 12, state.parentVid);
  writeU32(bytes, at + 16, state.lockState);
  if (state.lockOwner !== undefined) encodeNodeId(bytes, at + 20, state.lockOwner);
  writeU32(bytes, at + 60, state.participants.length);
  for (const [index, { node, state: of }] of state.participants.entries()) {
    writeU32(bytes, at + 64 + 4 * index, of);
    encodeNodeId(bytes, at + 188 + nodeIdBytes * index, node);
  }
}

/** A list of them. Throws "invalid" if there is part of one, or too many share a lock. */
export function decodeVdiStates(bytes: Uint8Array): WireVdiState[] {
  if (bytes.length % vdiStateBytes !== 0) {
    throw new KelpieError("invalid", `states of VDIs in ${bytes.length} bytes`);
  }
  return Array.from({ length: bytes.length / vdiStateBytes }, (_, index) =>
    decodeVdiState(bytes, vdiStateBytes * index),
  );
}

function decodeVdiState(bytes: Uint8Array, at: number): WireVdiState {
  const participants = readU32(bytes, at + 60);
  if (participants > participantsMax) {
    throw new KelpieError("invalid", `a lock shared by ${participants} nodes`);
  }
  const isLocked = readU32(bytes, at + 16) === lockState.locked;
  return {
    vid: readU32(bytes, at),
    copies: bytes[at + 4] as number,
    snapshot: bytes[at + 5] !== 0,
    deleted: bytes[at + 6] !== 0,
    copyPolicy: bytes[at + 7] as number,
    blockSizeShift: bytes[at + 8] as number,
    parentVid: readU32(bytes, at + 12),
    lockState: readU32(bytes, at + 16),
    lockOwner: isLocked ? decodeNodeId(bytes, at + 20) : undefined,
    participants: Array.from({ length: participants }, (_, index) => ({
      node: decodeNodeId(bytes, at + 188 + nodeIdBytes * index),
      state: readU32(bytes, at + 64 + 4 * index),
    })),
  };
}
