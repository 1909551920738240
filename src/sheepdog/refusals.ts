import { type ErrorCode, isKelpieError } from "../base/errors.ts";
import { ObjectError, type Refusal } from "../vdi/objects/objects.ts";
import { result } from "./results.ts";

const resultOfRefusal: Record<Refusal, number> = {
  "no-vdi": result.noVdi,
  "no-tag": result.noTag,
  "no-base-vdi": result.noBaseVdi,
  "vdi-exists": result.vdiExists,
  "no-object": result.noObject,
  "read-only": result.readOnly,
  "no-space": result.noSpace,
  "full-vdi": result.fullVdi,
  invalid: result.invalidParameters,
  // What the client believes of the disk is wrong, and there is no code that makes it look again.
  stale: result.io,
  locked: result.vdiLocked,
  io: result.io,
  unsupported: result.noSupport,
};

const resultOfCode: Record<ErrorCode, number> = {
  invalid: result.invalidParameters,
  "not-found": result.noVdi,
  exists: result.vdiExists,
  busy: result.vdiLocked,
  denied: result.noSupport,
  "read-only": result.readOnly,
  "no-space": result.noSpace,
  io: result.io,
  corrupt: result.io,
  unsupported: result.noSupport,
  closed: result.shutdown,
};

/** What a server answers; undefined for what is a mistake of ours. */
export function resultOf(error: unknown): number | undefined {
  if (error instanceof ObjectError) return resultOfRefusal[error.refusal];
  return isKelpieError(error) ? resultOfCode[error.code] : undefined;
}
