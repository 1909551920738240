import { createHash } from "node:crypto";
import { KelpieError } from "../base/errors.ts";
import type { ObjectId } from "../vdi/objects/objects.ts";
import type { Answer, Call, OperationParts } from "./operation.ts";
import { result } from "./results.ts";
import { decodeOid, oidBytes } from "./wire-oid.ts";
import { decodeObjectFields } from "./wire-request.ts";
import { encodeHashAnswer } from "./wire-response.ts";

const hashedAtOnceBytes = 2 ** 20;
/** What hashing takes, in comparisons of numbers: about a millisecond for each piece. */
const stepsPerByte = 1 / 16;
/** What looking for one object takes. */
const stepsPerObject = 64;

/** SHA-1 of a whole object, by which `dog` compares replicas. */
export async function getHash(call: Call, { objects, turns }: OperationParts): Promise<Answer> {
  const id = oidOf(call);
  if (!(await objects.exists(id))) return { result: result.noObject };
  const sizeBytes = objects.sizeOf(id);
  const hash = createHash("sha1");
  const room = new Uint8Array(Math.min(hashedAtOnceBytes, sizeBytes));
  for (let offset = 0; offset < sizeBytes; offset += room.length) {
    const piece = room.subarray(0, Math.min(room.length, sizeBytes - offset));
    await objects.read(id, offset, piece);
    hash.update(piece);
    turns.spend(piece.length * stepsPerByte);
    await turns.due();
  }
  const digest = hash.digest();
  return { fill: (bytes, at) => encodeHashAnswer(bytes, at, digest) };
}

export async function exist(call: Call, { objects }: OperationParts): Promise<Answer> {
  return (await objects.exists(oidOf(call))) ? {} : { result: result.noObject };
}

/** Says which of the objects that the payload names are missing. */
export async function oidsExist(call: Call, { objects, turns }: OperationParts): Promise<Answer> {
  const { payload } = call;
  if (payload.length % oidBytes !== 0) {
    throw new KelpieError("invalid", `object ids in ${payload.length} bytes`);
  }
  const missing: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += oidBytes) {
    turns.spend(stepsPerObject);
    const due = turns.due();
    if (due !== undefined) await due;
    const id = decodeOid(payload, at);
    if (id !== undefined && (await objects.exists(id))) continue;
    missing.push(payload.subarray(at, at + oidBytes));
  }
  if (missing.length === 0) return {};
  return { result: result.noObject, payload: Buffer.concat(missing) };
}

function oidOf(call: Call): ObjectId {
  const { oid } = decodeObjectFields(call.header, 0);
  if (oid === undefined) throw new KelpieError("invalid", "an object id that names nothing");
  return oid;
}
