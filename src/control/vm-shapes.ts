import { z } from "zod";

/** Calls about virtual machines. A VM is a running QEMU, its Kelpie disks, and where its memory is saved. */

const name = z.string().min(1);
const bytes = z.number().int().nonnegative();
const durationMs = z.number().nonnegative();

/** Where a QMP monitor listens. */
const address = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("unix"), path: z.string().min(1) }),
  z.object({ kind: z.literal("tcp"), host: z.string().min(1), port: z.number().int() }),
]);

const launch = z.object({
  /** As QEMU's -m takes it. */
  memory: z.string().min(1),
  /** More of QEMU's arguments. */
  arguments: z.array(z.string()),
  /** What relative paths in them are relative to. */
  directory: z.string(),
});

/** A snapshot of a VM: of its memory and devices, and of all its disks, at one moment. */
export const vmSnapshotEntry = z.object({
  /** 1, 2, 3 … */
  id: z.number().int().positive(),
  tag: z.string(),
  /** The snapshot that the VM stood on when it was taken. */
  parent: z.number().int().positive().nullable(),
  takenMs: durationMs,
  /** What memory and devices take. */
  memoryBytes: bytes,
  /** How long the guest had run, in nanoseconds. */
  clockNs: z.number().nonnegative(),
  /** Whether the VM stands on it. */
  current: z.boolean(),
  disks: z.array(z.object({ name, snapId: z.number().int().positive() })),
});
export type VmSnapshotEntry = z.infer<typeof vmSnapshotEntry>;

export const vmEntry = z.object({
  name,
  /** "off" if its monitor does not listen, "unknown" if it does not answer; else as QEMU has it. */
  state: z.string(),
  disks: z.array(name),
  leftOut: z.array(z.string()),
  /** The VDI that its memory is saved in. */
  memory: name,
  snapshots: z.number().int().nonnegative(),
  /** The tag of the snapshot that it stands on. */
  current: z.string().nullable(),
  monitor: address,
  /** Where QEMU has the guest agent's port; null if that is not known. */
  agent: address.nullable(),
  launch: launch.nullable(),
  /** For the sockets of a VM that Kelpie starts. */
  directory: z.string(),
  /** Where its disks are served; null if they are not. */
  server: address.nullable(),
});
export type VmEntry = z.infer<typeof vmEntry>;

/** How long it took, and how long the guest stood still in that. */
const took = { tookMs: durationMs, pausedMs: durationMs };
const snapshot = z.string().min(1);

export const vmCallShapes = {
  "vm.list": { kind: "query", input: z.object({}), output: z.array(vmEntry) },
  /** A VM that Kelpie is to start; or other arguments for one that is off. */
  "vm.create": {
    kind: "change",
    input: z.object({
      name,
      /** Those it has if absent. */
      disks: z.array(name).optional(),
      launch,
      /** Although another VM has one of the disks. */
      share: z.boolean().default(false),
    }),
    output: vmEntry,
  },
  /** Takes over a QEMU that runs: finds its disks, gives it the VDI for its memory. */
  "vm.attach": {
    kind: "change",
    input: z.object({
      name,
      /** As before if absent. */
      monitor: address.optional(),
      /** The guest agent's port. As before if absent. */
      agent: address.optional(),
      /** Drives, by node or device name, that are not Kelpie's and are not saved. */
      leaveOut: z.array(z.string()).default([]),
      share: z.boolean().default(false),
      /** Lets the guest begin, if it has not. */
      begin: z.boolean().default(false),
    }),
    output: vmEntry,
  },
  /** Without a tag it is called after the time. A tag that is used is refused, or with `replace` free. */
  "vm.savevm": {
    kind: "work",
    input: z.object({ name, tag: z.string().optional(), replace: z.boolean().default(false) }),
    output: z.object({ snapshot: vmSnapshotEntry, ...took }),
  },
  /** By tag or id. */
  "vm.loadvm": {
    kind: "work",
    input: z.object({ name, snapshot }),
    output: z.object({ snapshot: vmSnapshotEntry, ...took }),
  },
  "vm.delvm": {
    kind: "change",
    input: z.object({ name, snapshot }),
    output: z.object({ deleted: vmSnapshotEntry }),
  },
  "vm.snapshots": {
    kind: "query",
    input: z.object({ name }),
    output: z.array(vmSnapshotEntry),
  },
  /** A VM on clones of the disks that goes on from a snapshot when it is started. */
  "vm.branch": {
    kind: "change",
    input: z.object({ name, snapshot, as: name, arguments: z.array(z.string()).optional() }),
    output: vmEntry,
  },
  /** A line for QEMU's monitor. savevm, loadvm, delvm and "info snapshots" are Kelpie's. */
  "vm.command": {
    kind: "work",
    input: z.object({ name, line: z.string() }),
    output: z.object({ output: z.string() }),
  },
  /** Asks the guest to shut down; with `force` ends its QEMU at once. */
  "vm.stop": {
    kind: "work",
    input: z.object({
      name,
      force: z.boolean().default(false),
      timeoutMs: durationMs.default(60_000),
    }),
    output: z.object({ stopped: z.boolean() }),
  },
  /** Forgets a VM that is off, with its snapshots; its disks stay. */
  "vm.delete": {
    kind: "change",
    input: z.object({ name, disks: z.boolean().default(false) }),
    output: z.object({ deleted: z.number().int() }),
  },
} as const;
