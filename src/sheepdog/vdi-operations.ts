import { KelpieError } from "../base/errors.ts";
import type { VdiInfo, VdiSelector, VdiState } from "../vdi/objects/objects.ts";
import { vdiStatesMax } from "./limits.ts";
import type { Answer, Call, OperationParts } from "./operation.ts";
import { result } from "./results.ts";
import { blockSizeShift, vidBitmapBytes } from "./wire-opcodes.ts";
import { decodeVdiFields, type VdiFields } from "./wire-request.ts";
import { encodeVdiAnswer } from "./wire-response.ts";
import { decodeSelectorText, nameBytes } from "./wire-text.ts";
import {
  encodeVdiState,
  lockState,
  participantsMax,
  vdiStateBytes,
  type WireVdiState,
} from "./wire-vdi-state.ts";

export async function newVdi(call: Call, { objects }: OperationParts): Promise<Answer> {
  const fields = decodeVdiFields(call.header, 0);
  const shift = fields.blockSizeShift;
  const shiftIsLegal = shift >= blockSizeShift.min && shift <= blockSizeShift.max;
  if (call.payload.length !== nameBytes || !(shift === 0 || shiftIsLegal)) {
    throw new KelpieError("invalid", "NEW_VDI with a name or an object size that cannot be");
  }
  const { name } = decodeSelectorText(call.payload);
  const { copies, copyPolicy, storePolicy, sizeBytes, baseVid } = fields;
  const settings = { copies, copyPolicy, blockSizeShift: shift };
  const snapshot = fields.snapId !== 0;
  return describe(
    await objects.newVdi({ name, sizeBytes, baseVid, snapshot, storePolicy, ...settings }),
  );
}

export async function lockVdi(call: Call, { objects }: OperationParts): Promise<Answer> {
  const fields = decodeVdiFields(call.header, 0);
  if (fields.lockType > 1) {
    throw new KelpieError("invalid", `LOCK_VDI of kind ${fields.lockType}`);
  }
  const options = { client: call.client, shared: fields.lockType === 1 };
  return describe(await objects.lock(selectorOf(call, fields), options));
}

/** "Always success": a client that goes away does not want to know. */
export async function releaseVdi(call: Call, { objects }: OperationParts): Promise<Answer> {
  objects.release(call.client, decodeVdiFields(call.header, 0).baseVid);
  return {};
}

export async function getVdiInfo(call: Call, { objects }: OperationParts): Promise<Answer> {
  return describe(await objects.lookup(selectorOf(call, decodeVdiFields(call.header, 0))));
}

export async function deleteVdi(call: Call, { objects }: OperationParts): Promise<Answer> {
  const vid = await objects.deleteVdi(selectorOf(call, decodeVdiFields(call.header, 0)));
  return { fill: (bytes, at) => encodeVdiAnswer(bytes, at, { vid }) };
}

export async function readVdis(call: Call, { objects }: OperationParts): Promise<Answer> {
  expectBitmap(call);
  return { payload: await objects.vidsInUse() };
}

export async function readDeletedVdis(call: Call, { objects }: OperationParts): Promise<Answer> {
  expectBitmap(call);
  return { payload: await objects.vidsDeleted() };
}

export async function getVdiCopies(call: Call, { objects }: OperationParts): Promise<Answer> {
  const states = await objects.states({ max: vdiStatesMax });
  // Not that the room is too small: its client would ask with more and more.
  if (states.length > vdiStatesMax) return { result: result.noMemory };
  if (states.length * vdiStateBytes > call.prefix.dataLength) return { result: result.bufferSmall };
  const payload = new Uint8Array(states.length * vdiStateBytes);
  for (const [index, state] of states.entries()) {
    encodeVdiState(payload, index * vdiStateBytes, wireState(state));
  }
  return { payload };
}

function describe({ vid, copies, blockSizeShift }: VdiInfo): Answer {
  return { fill: (bytes, at) => encodeVdiAnswer(bytes, at, { vid, copies, blockSizeShift }) };
}

function selectorOf(call: Call, { snapId }: VdiFields): VdiSelector {
  return { ...decodeSelectorText(call.payload), snapId };
}

function expectBitmap({ prefix }: Call): void {
  if (prefix.dataLength !== vidBitmapBytes) {
    throw new KelpieError("invalid", `a map of vids in ${prefix.dataLength} bytes`);
  }
}

function wireState(state: VdiState): WireVdiState {
  const { lock, owners, ...rest } = state;
  // A client of a Unix socket has no address; and of an IPv6 one the interface is nobody's business.
  const hostOf = (host: string) => host.replace(/%.*$/, "") || "127.0.0.1";
  const all = owners.map(({ host, port }) => ({ host: hostOf(host), port }));
  const nodes = all.slice(0, participantsMax);
  return {
    ...rest,
    lockState: lock === "unlocked" ? lockState.none : lockState[lock],
    lockOwner: lock === "locked" ? nodes[0] : undefined,
    participants: lock === "shared" ? nodes.map((node) => ({ node, state: shared })) : [],
  };
}

/** Nobody is told to read anew: there are no caches between a client and its disk. */
const shared = 2;
