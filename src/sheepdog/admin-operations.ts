import type { Objects } from "../vdi/objects/objects.ts";
import { storeNames } from "./cluster-operations.ts";
import type { Answer, Call, OperationParts } from "./operation.ts";
import { result } from "./results.ts";
import { clusterStatus } from "./wire-cluster.ts";
import { blockSizeShift, clusterFlag, copiesMax, copiesOfPolicy } from "./wire-opcodes.ts";
import { type ClusterFields, decodeClusterFields } from "./wire-request.ts";
import { decodeText } from "./wire-text.ts";

/*
 * What the protocol lets whoever reaches the port do, without a question or a password. Refused
 * unless the server was started to allow it.
 */

/** What a store here is not: copies on several nodes, disks as nodes, vids used again. */
const flagsRefused = clusterFlag.strict | clusterFlag.diskMode | clusterFlag.recycleVid;

/** Formats: on a store without disks that changes its defaults, on any other it deletes them all. */
export async function makeFs(call: Call, parts: OperationParts): Promise<Answer> {
  const { objects, allowAdmin, log } = parts;
  const fields = decodeClusterFields(call.header, 0);
  if (!storeNames.includes(decodeText(call.payload, 0, call.payload.length))) {
    return { result: result.noStore };
  }
  if ((fields.clusterFlags & flagsRefused) !== 0) return { result: result.noSupport };
  const settings = settingsOf(fields, objects);
  if (settings === undefined) return { result: result.invalidParameters };
  if (allowAdmin) {
    const why = "sheepdog MAKE_FS";
    log.warn("formatted: disks that are there are deleted", { peer: call.client.peer, why });
  }
  const done = await objects.format({ ...settings, onlyIfEmpty: !allowAdmin });
  return done ? {} : refuse("MAKE_FS", call, parts);
}

export async function shutdown(call: Call, parts: OperationParts): Promise<Answer> {
  return end(call, { ...parts, status: clusterStatus.shuttingDown, name: "SHUTDOWN" });
}

/** The one node of this cluster is the server. */
export async function killNode(call: Call, parts: OperationParts): Promise<Answer> {
  return end(call, { ...parts, status: clusterStatus.killed, name: "KILL_NODE" });
}

function end(call: Call, parts: OperationParts & { status: number; name: string }): Answer {
  const { cluster, log, allowAdmin, status, name } = parts;
  if (!allowAdmin) return refuse(name, call, parts);
  log.warn("the server ends", { peer: call.client.peer, why: `sheepdog ${name}` });
  cluster.status = status;
  parts.stop();
  return {};
}

function refuse(name: string, { client }: Call, { log }: OperationParts): Answer {
  log.warn(`sheepdog ${name} refused`, { peer: client.peer, remedy: "serve --allow-admin" });
  return { result: result.noSupport };
}

/** Undefined for numbers that cannot be. */
function settingsOf(fields: ClusterFields, { defaults }: Objects) {
  const { copyPolicy } = fields;
  const { data, parity } = copiesOfPolicy(copyPolicy);
  const copies = copyPolicy === 0 ? fields.copies || defaults.copies : data + parity;
  const shift = fields.blockSizeShift || defaults.blockSizeShift;
  if (copies > copiesMax || shift < blockSizeShift.min || shift > blockSizeShift.max) {
    return undefined;
  }
  const locking = (fields.clusterFlags & clusterFlag.useLock) !== 0;
  return { copies, copyPolicy, blockSizeShift: shift, locking };
}
