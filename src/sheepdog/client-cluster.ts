import { encodeUtf8 } from "../base/bytes.ts";
import type { SheepdogClient } from "./client.ts";
import { isRefused } from "./client-errors.ts";
import type { SendOptions } from "./client-link.ts";
import { describeResult, result } from "./results.ts";
import {
  type ClusterInfo,
  clusterInfoBytes,
  decodeClusterInfo,
  decodeEpochs,
  type EpochRecord,
  epochHeaderBytes,
} from "./wire-cluster.ts";
import { type ClusterNode, decodeNodes, nodeBytes, nodesMax } from "./wire-node.ts";
import { clusterFlag, opcode } from "./wire-opcodes.ts";
import { encodeClusterRequest, encodePlainRequest } from "./wire-request.ts";
import { decodeNodeAnswer } from "./wire-response.ts";
import { encodeTime } from "./wire-time.ts";

/** What the cluster says of itself; undefined for a server older than the question. */
export async function readClusterInfo(
  client: SheepdogClient,
  options: SendOptions = {},
): Promise<ClusterInfo | undefined> {
  const target = new Uint8Array(clusterInfoBytes);
  const call = { opcode: opcode.clusterInfo, encode: encodePlainRequest, target };
  try {
    const { receivedBytes } = await client.call("state of the cluster", call, options);
    return decodeClusterInfo(target.subarray(0, receivedBytes));
  } catch (error) {
    if (isRefused(error, result.invalidParameters, result.versionMismatch)) return undefined;
    throw error;
  }
}

/** Nodes in the order of their addresses. */
export async function readNodes(client: SheepdogClient): Promise<ClusterNode[]> {
  const target = new Uint8Array(nodesMax * nodeBytes);
  const call = { opcode: opcode.getNodeList, encode: encodePlainRequest, target };
  const answer = await client.call("list of nodes", call);
  return decodeNodes(
    target.subarray(0, answer.receivedBytes),
    decodeNodeAnswer(answer.header, 0).nodes,
  );
}

/** Of the node that is connected: 0 of 0 for one that keeps nothing. */
export async function readSpace(
  client: SheepdogClient,
): Promise<{ sizeBytes: number; freeBytes: number }> {
  const call = { opcode: opcode.statSheep, encode: encodePlainRequest };
  const { header } = await client.call("space of a node", call);
  const { sizeBytes, freeBytes } = decodeNodeAnswer(header, 0);
  return { sizeBytes, freeBytes };
}

export interface ClusterHistory {
  /** For people: what the cluster does, or waits for. */
  status: string;
  /** The newest first; none before the first format. */
  epochs: EpochRecord[];
}

/** Asks for as many as fit a few MiB: newer ones first, and nobody looks further back. */
export async function readEpochs(client: SheepdogClient): Promise<ClusterHistory> {
  // Epochs of the past may have had more nodes than there are now.
  const now = await readNodes(client).catch(() => []);
  for (let nodes = Math.max(16, 2 * now.length); ; nodes *= 2) {
    const recordBytes = epochHeaderBytes + nodes * nodeBytes;
    const target = new Uint8Array(epochsMax * recordBytes);
    const answer = await client.ask({
      opcode: opcode.statCluster,
      encode: (prefix) => encodeClusterRequest(prefix, { nodes }),
      target,
    });
    if (answer.result === result.bufferSmall && nodes < nodesMax) continue;
    // The last one may come without the room for nodes that it does not have.
    const records = Math.ceil(answer.receivedBytes / recordBytes);
    const epochs = decodeEpochs(target.subarray(0, records * recordBytes), nodes);
    const status = answer.result === result.success ? "running" : describeResult(answer.result);
    return { status, epochs };
  }
}

/** Shown at most. */
const epochsMax = 256;

export interface FormatSettings {
  /** "plain" or "tree". */
  store: string;
  copies: number;
  copyPolicy: number;
  blockSizeShift: number;
  flags: number;
  nowMs: number;
}

/** Makes the cluster new: every disk in it is gone. Sent once. */
export async function formatCluster(
  client: SheepdogClient,
  settings: FormatSettings,
): Promise<void> {
  const { store, flags, nowMs, ...rest } = settings;
  await client.call(
    "format",
    {
      opcode: opcode.makeFs,
      encode: (prefix) => {
        const bytes = encodeClusterRequest(prefix, { ...rest, clusterFlags: flags });
        encodeTime(bytes, createdAt, nowMs);
        return bytes;
      },
      payload: [encodeUtf8(`${store}\0`)],
    },
    { once: true },
  );
}

/** Where the creation time stands in a request; 0 there would mean that it is not formatted. */
const createdAt = 24;

/** Stops all nodes. Sent once. */
export async function shutDownCluster(client: SheepdogClient): Promise<void> {
  const call = { opcode: opcode.shutdown, encode: encodePlainRequest };
  await client.call("shutdown", call, { once: true });
}

export { clusterFlag };
