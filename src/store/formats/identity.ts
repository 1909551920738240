import { z } from "zod";
import { KelpieError } from "../../base/errors.ts";
import { decodeJsonFrame, encodeJsonFrame, type FrameKind, frameType } from "./frame.ts";

/**
 * The key `store`: a frame of type 1 around JSON, written once when the store is made.
 *
 *   id                16 random bytes in hex
 *   format            version of the formats as a whole
 *   incompatible      features without which the store must not be opened
 *   readCompatible    features without which it may be read but not written
 *   compatible        features that may be ignored
 */
export const formatVersion = 1;
const knownIncompatible = new Set<string>();
const knownReadCompatible = new Set<string>();

const identity = z.object({
  id: z.string().regex(/^[0-9a-f]{32}$/),
  format: z.number().int(),
  createdMs: z.number(),
  incompatible: z.array(z.string()),
  readCompatible: z.array(z.string()),
  compatible: z.array(z.string()),
});

export type Identity = z.infer<typeof identity>;

const kind: FrameKind = { type: frameType.identity, version: 1, what: "store identity" };

export function encodeIdentity(value: Identity): Uint8Array[] {
  return encodeJsonFrame(kind, value);
}

/** Refuses what this version must not touch, naming the feature. */
export function decodeIdentity(bytes: Uint8Array, object: string): Identity {
  const parsed = identity.safeParse(decodeJsonFrame(kind, bytes, object));
  if (!parsed.success) {
    throw new KelpieError("corrupt", `${object} is not valid: ${z.prettifyError(parsed.error)}`);
  }
  const value = parsed.data;
  const unknown = [
    ...value.incompatible.filter((feature) => !knownIncompatible.has(feature)),
    ...value.readCompatible.filter((feature) => !knownReadCompatible.has(feature)),
  ];
  if (value.format > formatVersion || unknown.length > 0) {
    const why = unknown.length > 0 ? `features: ${unknown.join(", ")}` : `format ${value.format}`;
    throw new KelpieError("unsupported", `${object} was made by a newer Kelpie (${why})`, {
      remedy: "Use that version, or a newer one. Nothing was changed.",
    });
  }
  return value;
}
