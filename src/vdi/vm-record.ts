import { z } from "zod";

/**
 * What the catalog keeps of a virtual machine: which disks are its own, where its monitor is, and its
 * snapshots, each of which is one snapshot of every disk and one state of memory and devices ("image") in
 * the machine's memory VDI. A record is replaced as a whole, in the catalog record of what changed it.
 */
const id = z.number().int().positive();
const name = z.string();

const vmSnapshot = z.strictObject({
  /** 1, 2, 3 … in the VM; never reused. */
  id,
  tag: z.string(),
  /** What the state is called in the memory VDI. */
  image: z.string(),
  takenMs: z.number(),
  /** How long the guest had run, in nanoseconds. */
  clockNs: z.number(),
  /** What memory and devices take. */
  memoryBytes: z.number(),
  /** The VM snapshot that the VM stood on when this was taken. */
  parent: id.nullable(),
  /** The snapshot of each disk. */
  disks: z.array(z.strictObject({ name, point: id })),
});

/**
 * What has been begun and is not known to be done; whoever finds it brings it to an end.
 * save    an image is being written: it is not wanted
 * load    `image` is what the memory was before, and the disks are still as they were
 * resume  all is done but that the guest runs on
 * begin   a VM that was just branched off: its memory comes from `image`
 * thaw    the guest's file systems may be frozen
 */
const pending = z.strictObject({
  kind: z.enum(["save", "load", "resume", "begin", "thaw"]),
  image: z.string().nullable(),
  wasRunning: z.boolean(),
  /** A VDI, a copy of the memory VDI that a state is loaded from; it goes when this is over. */
  copy: name.optional(),
});

const address = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("unix"), path: z.string() }),
  z.strictObject({ kind: z.literal("tcp"), host: z.string(), port: z.number().int() }),
]);

/** How Kelpie starts its QEMU; a VM that somebody else has started has none. */
const launch = z.strictObject({
  memory: z.string(),
  arguments: z.array(z.string()),
  directory: z.string(),
});

export const vmRecord = z.strictObject({
  name,
  monitor: address,
  /** Where QEMU has the guest agent's port, if it is known. */
  agent: address.optional(),
  /** Its disks, in the order in which it has them. */
  disks: z.array(name),
  /** Drives of its QEMU that are not Kelpie's and are left out on purpose. */
  leftOut: z.array(z.string()),
  /** The VDI that its memory is saved in. */
  memory: name,
  snapshots: z.array(vmSnapshot),
  /** The id that the next snapshot gets. */
  nextId: id,
  /** The snapshot that the VM stands on. */
  current: id.nullable(),
  launch: launch.nullable(),
  pending: pending.nullable(),
});

export type VmRecord = z.infer<typeof vmRecord>;
export type VmSnapshot = z.infer<typeof vmSnapshot>;
export type VmPending = z.infer<typeof pending>;
export type VmLaunch = z.infer<typeof launch>;
