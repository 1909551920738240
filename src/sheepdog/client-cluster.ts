import type { SheepdogClient } from "./client.ts";
import { isRefused } from "./client-errors.ts";
import { result } from "./results.ts";
import { type ClusterInfo, clusterInfoBytes, decodeClusterInfo } from "./wire-cluster.ts";
import { opcode } from "./wire-opcodes.ts";
import { encodePlainRequest } from "./wire-request.ts";

/** What the cluster says of itself; undefined for a server older than the question. */
export async function readClusterInfo(client: SheepdogClient): Promise<ClusterInfo | undefined> {
  const target = new Uint8Array(clusterInfoBytes);
  const call = { opcode: opcode.clusterInfo, encode: encodePlainRequest, target };
  try {
    const { receivedBytes } = await client.call("state of the cluster", call);
    return decodeClusterInfo(target.subarray(0, receivedBytes));
  } catch (error) {
    if (isRefused(error, result.invalidParameters, result.versionMismatch)) return undefined;
    throw error;
  }
}
