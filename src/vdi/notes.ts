import { z } from "zod";
import { KelpieError } from "../base/errors.ts";
import { attributeNote, formatNote, inodeFields } from "./objects/object-registry.ts";
import { vidNote } from "./objects/vid-table.ts";
import { qosFields } from "./qos.ts";
import { vmRecord } from "./vm-record.ts";

/**
 * What catalog records keep for this layer: one note for each thing that happened to a disk. Times are
 * the record's. A note that is not known here stops the gateway, as an unknown change does.
 */
/** "object": until the object store has it; "local": until the disk of this machine has it. */
export const flushMode = z.enum(["object", "local"]);
export type FlushMode = z.infer<typeof flushMode>;

const id = z.number().int().positive();
const name = z.string();

const note = z.discriminatedUnion("type", [
  /** A new disk, also a clone: `tip` is its working VDI. */
  z.strictObject({ type: z.literal("create"), name, tip: id }),
  /**
   * The disk's tip became snapshot `snapId`; `tip` goes on. With times of its own when the history of a
   * disk was copied from elsewhere.
   */
  z.strictObject({
    type: z.literal("snapshot"),
    name,
    snapId: id,
    tag: z.string(),
    tip: id,
    takenMs: z.number().optional(),
    createdMs: z.number().optional(),
  }),
  /** The disk's tip was replaced; the old one is discarded. */
  z.strictObject({
    type: z.literal("replace"),
    name,
    tip: id,
    why: z.enum(["rollback", "undelete", "flatten"]),
  }),
  /** The disk lost its tip, which is discarded; its snapshots stay. */
  z.strictObject({ type: z.literal("delete"), name }),
  z.strictObject({ type: z.literal("deleteSnapshot"), point: id }),
  /** A discarded tip is given up for good. */
  z.strictObject({ type: z.literal("purge"), point: id }),
  /** Points have vids from here on, for ever. */
  z.strictObject({ type: z.literal("vids"), vids: z.array(vidNote) }),
  /** What disks have that do not say otherwise, and whether Sheepdog's locks do anything. */
  z.strictObject({ type: z.literal("format"), format: formatNote }),
  /** What a client wrote into the inode of a point; of a working VDI, the tag of the snapshot to come. */
  z.strictObject({ type: z.literal("inode"), point: id, inode: inodeFields }),
  /** `extra` holds what clients of Sheepdog keep with a point beside its data. */
  z.strictObject({ type: z.literal("extra"), point: id, extra: id }),
  /** An attribute of a disk, by the hash of its name and its own; without a value it was deleted. */
  z.strictObject({ type: z.literal("attribute"), attribute: attributeNote }),
  /** How fast a disk may be used, whatever it stands on; null: as fast as it goes. */
  z.strictObject({ type: z.literal("qos"), name, qos: qosFields.nullable() }),
  /** Space for disks whose names have the pattern; null: no quota. */
  z.strictObject({
    type: z.literal("quota"),
    pattern: z.string(),
    limitBytes: z.number().int().nonnegative().nullable(),
  }),
  /** A virtual machine is from here on what `record` says. */
  z.strictObject({ type: z.literal("vm"), record: vmRecord }),
  z.strictObject({ type: z.literal("forgetVm"), name }),
  /** Of a store in an object store: what a flush of the disk waits for from here on. */
  z.strictObject({ type: z.literal("flush"), name, mode: flushMode }),
]);

export type Note = z.infer<typeof note>;

export function parseNote(value: unknown): Note {
  const parsed = note.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new KelpieError("unsupported", "the catalog has a note that this Kelpie does not know", {
    cause: parsed.error,
    remedy: "Use the version of Kelpie that wrote this store, or a newer one.",
  });
}
