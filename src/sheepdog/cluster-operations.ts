import { KelpieError } from "../base/errors.ts";
import { writeU32 } from "../base/little-endian.ts";
import { epoch, storeName, vnodes } from "./cluster.ts";
import type { Answer, Call, OperationParts } from "./operation.ts";
import { result } from "./results.ts";
import {
  clusterInfoBytes,
  clusterStatus,
  encodeClusterInfo,
  encodeEpoch,
  epochHeaderBytes,
} from "./wire-cluster.ts";
import { encodeNodes, nodeBytes, nodesMax } from "./wire-node.ts";
import { protocolVersion } from "./wire-opcodes.ts";
import { decodeClusterFields } from "./wire-request.ts";
import { encodeClusterDefault, encodeNodeAnswer } from "./wire-response.ts";
import {
  decodeThrottling,
  encodeMdInfo,
  encodeRecoveryState,
  encodeStat,
  encodeThrottling,
  mdInfoBytes,
} from "./wire-stat.ts";

/** Kinds of store that MAKE_FS takes: its own, and those that `dog` names when it is not told. */
export const storeNames: readonly string[] = [storeName, "plain", "tree"];

export async function getClusterDefault(_: Call, { objects }: OperationParts): Promise<Answer> {
  const { copies, copyPolicy, blockSizeShift } = objects.defaults;
  return {
    fill: (bytes, at) => encodeClusterDefault(bytes, at, { copies, copyPolicy, blockSizeShift }),
  };
}

export async function getNodeList(call: Call, { cluster }: OperationParts): Promise<Answer> {
  const nodes = await cluster.nodes();
  if (nodes.length * nodeBytes > call.prefix.dataLength) return { result: result.bufferSmall };
  return {
    payload: encodeNodes(nodes),
    fill: (bytes, at) => encodeNodeAnswer(bytes, at, { nodes: nodes.length }),
  };
}

export async function statSheep(_: Call, { store }: OperationParts): Promise<Answer> {
  const { totalBytes, freeBytes } = await store.space();
  const answer = { sizeBytes: totalBytes, freeBytes };
  return { fill: (bytes, at) => encodeNodeAnswer(bytes, at, answer) };
}

/**
 * One record, because there is one epoch, with the room for nodes that was asked for: clients tell by
 * the length how many records there are. Those that only want to know whether there are disks in the
 * ring leave no room for nodes: they get the record without them, and are told so.
 */
export async function statCluster(call: Call, { cluster }: OperationParts): Promise<Answer> {
  const { nodes: room } = decodeClusterFields(call.header, 0);
  if (room > nodesMax) throw new KelpieError("invalid", `room for ${room} nodes in an epoch`);
  const record = await cluster.epochRecord();
  const fits = room >= record.nodes.length;
  const shown = fits ? record : { ...record, nodes: [] };
  const isRoom = epochHeaderBytes + room * nodeBytes <= call.prefix.dataLength;
  const payload = isRoom ? encodeEpoch(shown, room) : new Uint8Array(0);
  return { payload, result: fits ? result.success : result.bufferSmall };
}

export async function clusterInfo(
  call: Call,
  { cluster, objects }: OperationParts,
): Promise<Answer> {
  expectRoom(call, clusterInfoBytes);
  return {
    payload: encodeClusterInfo({
      ...objects.defaults,
      protocolVersion,
      recoveryDisabled: cluster.recoveryDisabled,
      epoch,
      createdMs: cluster.createdMs,
      clusterFlags: cluster.flags,
      status: cluster.status,
      storeName,
      nodes: await cluster.nodes(),
    }),
  };
}

export async function getStoreList(): Promise<Answer> {
  return { payload: Buffer.from(`${storeNames.join(" ")} \0`) };
}

export async function statRecovery(): Promise<Answer> {
  const state = { underWay: false, phase: 0, finished: 0, total: 0 };
  return { payload: encodeRecoveryState(state) };
}

export async function getRecovery(_: Call, { cluster }: OperationParts): Promise<Answer> {
  return { payload: encodeThrottling(cluster.throttling) };
}

export async function setRecovery(call: Call, { cluster }: OperationParts): Promise<Answer> {
  cluster.throttling = decodeThrottling(call.payload);
  return {};
}

export async function enableRecover(_: Call, { cluster }: OperationParts): Promise<Answer> {
  cluster.recoveryDisabled = false;
  return {};
}

export async function disableRecover(_: Call, { cluster }: OperationParts): Promise<Answer> {
  cluster.recoveryDisabled = true;
  return {};
}

export async function mdInfo(call: Call, { store }: OperationParts): Promise<Answer> {
  expectRoom(call, mdInfoBytes);
  const { totalBytes, freeBytes } = await store.space();
  const usedBytes = totalBytes - freeBytes;
  return { payload: encodeMdInfo([{ index: 0, freeBytes, usedBytes, path: store.path }]) };
}

export async function stat(_: Call, { cluster }: OperationParts): Promise<Answer> {
  return { payload: encodeStat(cluster.stat) };
}

export async function getVnodes(): Promise<Answer> {
  const payload = new Uint8Array(4);
  writeU32(payload, 0, vnodes);
  return { payload };
}

/** There is one node, and it has what there is. */
export async function nothingToDo(): Promise<Answer> {
  return {};
}

/** Cut off, it would be read as something else. */
function expectRoom({ prefix }: Call, sizeBytes: number): void {
  if (prefix.dataLength < sizeBytes) {
    throw new KelpieError("invalid", `${sizeBytes} bytes do not fit in ${prefix.dataLength}`);
  }
}

/** Of a server that was told to end. */
export function isEnding(status: number): boolean {
  return status === clusterStatus.killed || status === clusterStatus.shuttingDown;
}
