import { z } from "zod";
import { KelpieError } from "../../base/errors.ts";
import { decodeJsonFrame, encodeJsonFrame, type FrameKind, frameType } from "./frame.ts";

/**
 * A catalog record: a frame of type 2 around JSON. One record is one atomic change, also over several
 * disks. A record with a change that is not known here stops the gateway: to skip it would be to
 * serve disks as they are not.
 *
 *   number    the record's own number
 *   nonce     16 random bytes in hex: how a writer knows its own record again
 *   timeMs    wall clock, for people
 *   changes   to points and logs, below
 *   notes     what the layer above (vdi/) keeps with them: names, tags, snap ids; opaque here
 *
 * point   a new point on `parent` (0: none), with the parent's map as it then is; the parent is
 *         frozen from here on
 * assign  segments of `log` from number `from` on belong to `point`; `after` is where what the log
 *         holds before that ends, if the record may be in an object store before it
 * resize  the point's size
 * delete  nobody can see the point any more; its space returns in the background
 */
const number = z.number().int().nonnegative();

const change = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("point"), id: number, parent: number, sizeBytes: number }),
  z.strictObject({
    type: z.literal("assign"),
    log: number,
    from: number,
    point: number,
    after: z.strictObject({ segment: number, units: number }).optional(),
  }),
  z.strictObject({ type: z.literal("resize"), id: number, sizeBytes: number }),
  z.strictObject({ type: z.literal("delete"), id: number }),
]);

const catalogRecord = z.strictObject({
  number,
  nonce: z.string(),
  timeMs: z.number(),
  changes: z.array(change),
  notes: z.array(z.unknown()),
});

export type PointChange = z.infer<typeof change>;
export type CatalogRecord = z.infer<typeof catalogRecord>;

const kind: FrameKind = { type: frameType.catalogRecord, version: 1, what: "catalog record" };

export function encodeCatalogRecord(record: CatalogRecord): Uint8Array[] {
  return encodeJsonFrame(kind, record);
}

export function decodeCatalogRecord(bytes: Uint8Array, object: string): CatalogRecord {
  const parsed = catalogRecord.safeParse(decodeJsonFrame(kind, bytes, object));
  if (parsed.success) return parsed.data;
  throw new KelpieError(
    "unsupported",
    `${object} has a change that this Kelpie does not know: ${z.prettifyError(parsed.error)}`,
    { remedy: "Use the version of Kelpie that wrote this store, or a newer one." },
  );
}
