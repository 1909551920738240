import { z } from "zod";
import { burstMsDefault } from "../block/request-limiter.ts";
import { qosFields } from "../vdi/qos.ts";
import { serverCallShapes } from "./server-shapes.ts";
import { vmCallShapes } from "./vm-shapes.ts";

/**
 * Everything the product can do, as calls over plain data. The command line, the control socket and
 * the library are skins over this one table. Times are milliseconds since 1970, sizes are bytes.
 */

const name = z.string().min(1);
const bytes = z.number().int().nonnegative();
const timeMs = z.number().nonnegative();

/** Which point of a disk: its working VDI if absent, else a snapshot by tag or by "#id" / "id". */
const snapshot = z.string().min(1);

/** "object": a flush waits for the object store; "local": for the disk of the gateway's machine. */
export const flushMode = z.enum(["object", "local"]);

export const vdiEntry = z.object({
  name,
  kind: z.enum(["working", "snapshot"]),
  /** 1, 2, 3 …; the working VDI has the id its next snapshot will get. */
  snapId: z.number().int().positive(),
  /** Empty if the snapshot has none, and for the working VDI. */
  tag: z.string(),
  /** Number of this point in the store; never reused. */
  point: z.number().int().positive(),
  /** The point it stands on; null for the first of a family. Skips points that are deleted. */
  parent: z.number().int().positive().nullable(),
  /** The first point of its family. */
  family: z.number().int().positive(),
  sizeBytes: bytes,
  /** What reads as data in this point. */
  mappedBytes: bytes,
  /** Of that, what only this point holds: deleting it returns this much. */
  exclusiveBytes: bytes,
  /** Of that, what it shares with its parent or with points that stand on it. */
  sharedBytes: bytes,
  /** When the working VDI began, or when the snapshot was taken. */
  createdMs: timeMs,
  /** True if it stands on a snapshot of another name. */
  clone: z.boolean(),
  /** Connections that have it open. */
  clients: z.number().int().nonnegative(),
  /** The VM that has this disk, keeps its memory in it, or has this in a snapshot of its own. */
  vm: name.optional(),
  /** Of a working VDI in an object store: what its flushes wait for. */
  flush: flushMode.optional(),
  /** Of a snapshot: not all of it is in the object store yet. */
  pending: z.literal(true).optional(),
});
export type VdiEntry = z.infer<typeof vdiEntry>;

export const discardedEntry = z.object({
  name,
  point: z.number().int().positive(),
  why: z.enum(["rollback", "delete", "undelete", "flatten"]),
  discardedMs: timeMs,
  purgeMs: timeMs,
  sizeBytes: bytes,
  exclusiveBytes: bytes,
});
export type DiscardedEntry = z.infer<typeof discardedEntry>;

export const clientEntry = z.object({
  protocol: z.string(),
  peer: z.string(),
  export: z.string(),
  readOnly: z.boolean(),
});

/** What a client of Sheepdog has locked. */
export const lockEntry = z.object({
  name: z.string(),
  /** Null for the working VDI. */
  snapId: z.number().int().nullable(),
  tag: z.string(),
  /** Several have it, all of whom asked for that. */
  shared: z.boolean(),
  /** Who asked for it: "10.0.0.3:40312", or what a Unix socket is called. */
  owners: z.array(z.string()),
});
export type LockEntry = z.infer<typeof lockEntry>;

export const rangeEntry = z.object({
  offset: bytes,
  length: bytes,
  /** For a map: data or hole. For a diff: always "changed". */
  kind: z.enum(["data", "hole", "zero", "changed"]),
  /** For a map: how many points up the data was written; 1 is this point, 0 a hole. */
  depth: z.number().int().nonnegative().optional(),
});
export type RangeEntry = z.infer<typeof rangeEntry>;

/** Answers that can be long come in pages: ask again with `next` as `offset` until it is null. */
const rangePage = z.object({ ranges: z.array(rangeEntry), next: bytes.nullable() });

export const finding = z.object({
  severity: z.enum(["damage", "leak", "note"]),
  /** What is affected: a key of the store, a disk and range. */
  object: z.string(),
  message: z.string(),
});
export type Finding = z.infer<typeof finding>;

export const storeInfo = z.object({
  url: z.string(),
  id: z.string(),
  format: z.number().int(),
  vdis: z.number().int(),
  points: z.number().int(),
  segments: z.number().int(),
  /** Bytes of blocks that some point holds. */
  liveBytes: bytes,
  /** Bytes of all segments and maps on the disk. */
  usedBytes: bytes,
  freeBytes: bytes,
  reserveBytes: bytes,
  catalogRecords: z.number().int(),
  /** Whether guests may write, or why not. */
  state: z.enum(["open", "full"]),
  /** Of a store in an object store: what this process asked of it, and what is kept here. */
  remote: z
    .object({
      requests: z.record(
        z.enum(["put", "get", "head", "list", "delete"]),
        z.object({ requests: z.number().int(), failures: z.number().int(), bytes }),
      ),
      /** Written here and not there yet. */
      pendingBytes: bytes,
      cacheBytes: bytes,
      cacheBytesMax: bytes,
      cacheHits: z.number().int(),
      cacheMisses: z.number().int(),
    })
    .optional(),
});

/** How fast a disk may be used. */
export const qosEntry = qosFields
  .extend({ burstMs: qosFields.shape.burstMs.default(burstMsDefault) })
  .refine(({ opsPerSecond, bytesPerSecond }) => (opsPerSecond ?? bytesPerSecond) !== undefined, {
    message: "limits that limit neither requests nor bytes",
  });
export type QosEntry = z.infer<typeof qosEntry>;

interface CallShape {
  input: z.ZodType;
  output: z.ZodType;
  /** "query" changes nothing. "work" may take long and reports progress. */
  kind: "query" | "change" | "work";
}

const empty = z.object({});
const nameInput = z.object({ name });

export const calls = {
  ...serverCallShapes,
  "vdi.create": {
    kind: "change",
    input: z.object({
      name,
      sizeBytes: bytes,
      qos: qosEntry.optional(),
      flush: flushMode.optional(),
    }),
    output: vdiEntry,
  },
  /** Of a store in an object store. */
  "vdi.setFlush": {
    kind: "change",
    input: z.object({ name, flush: flushMode }),
    output: vdiEntry,
  },
  /** From now on, also for who has it open; null: as fast as it goes. */
  "vdi.setQos": {
    kind: "change",
    input: z.object({ name, qos: qosEntry.nullable() }),
    output: z.object({ qos: qosEntry.nullable() }),
  },
  /** Working VDIs and snapshots, sorted by name and snap id; of one name if `name` is given. */
  "vdi.list": {
    kind: "query",
    input: z.object({ name: name.optional() }),
    output: z.array(vdiEntry),
  },
  "vdi.discarded": {
    kind: "query",
    input: z.object({ name: name.optional() }),
    output: z.array(discardedEntry),
  },
  "vdi.info": {
    kind: "query",
    input: z.object({ name, snapshot: snapshot.optional() }),
    output: z.object({
      entry: vdiEntry,
      clients: z.array(clientEntry),
      snapshots: z.number().int(),
      discarded: z.array(discardedEntry),
      /** Of a working VDI that has limits. */
      qos: qosEntry.optional(),
      /** Not there if no client of Sheepdog ever asked for it. */
      sheepdog: z
        .object({
          vid: z.number().int().positive(),
          objectBytes: bytes,
          /** What such clients keep with it beside its data: the state of a machine. */
          besideBytes: bytes,
        })
        .optional(),
    }),
  },
  /**
   * One snapshot of each, all at the same moment, in one step. `history`: it was taken elsewhere, and the
   * disk is a copy of that one; its id must not be lower than the next one would be. `quiesce`: file systems
   * of the VMs that have the disks are frozen meanwhile, by the agents in their guests.
   */
  "vdi.snapshot": {
    kind: "change",
    input: z.object({
      names: z.array(name).min(1),
      tag: z.string().optional(),
      quiesce: z.boolean().default(false),
      /** Answered when the object store has all of it. */
      wait: z.boolean().optional(),
      history: z
        .object({
          snapId: z.number().int().positive(),
          takenMs: timeMs,
          createdMs: timeMs,
          /** Of a machine; the state itself was written before, with vdi.vmstate. */
          vmState: z.object({ sizeBytes: bytes, clockNs: z.number().nonnegative() }).optional(),
        })
        .optional(),
    }),
    output: z.array(vdiEntry),
  },
  /** Part of a machine's state, which the disk's next snapshot keeps. */
  "vdi.vmstate": {
    kind: "change",
    input: z.object({ name, offset: bytes, data: z.base64() }),
    output: empty,
  },
  "vdi.clone": {
    kind: "change",
    input: z.object({ source: name, snapshot, name }),
    output: vdiEntry,
  },
  /** `live`: also when it is attached. Several names roll back in one step, to the same tag or id. */
  "vdi.rollback": {
    kind: "change",
    input: z.object({ names: z.array(name).min(1), snapshot, live: z.boolean().default(false) }),
    output: z.array(vdiEntry),
  },
  /** Of a working VDI, or of a snapshot if one is named. */
  "vdi.delete": {
    kind: "change",
    input: z.object({ name, snapshot: snapshot.optional() }),
    output: z.object({ deleted: z.number().int() }),
  },
  /** Brings a discarded tip back; it changes places with the present one, or gets the name `as`. */
  "vdi.undelete": {
    kind: "change",
    input: z.object({
      name,
      point: z.number().int().positive().optional(),
      as: name.optional(),
      live: z.boolean().default(false),
    }),
    output: vdiEntry,
  },
  /** Gives discarded tips up for good; of one name if it is given. */
  "vdi.purge": {
    kind: "change",
    input: z.object({ name: name.optional() }),
    output: z.object({ purged: z.number().int() }),
  },
  "vdi.resize": {
    kind: "change",
    input: z.object({ name, sizeBytes: bytes, shrink: z.boolean().default(false) }),
    output: vdiEntry,
  },
  /** By name and snap id, a working VDI after its snapshots. */
  "vdi.locks": {
    kind: "query",
    input: z.object({ name: name.optional() }),
    output: z.array(lockEntry),
  },
  /** Says who had it. The owner is not told, and may still write. */
  "vdi.breakLock": {
    kind: "change",
    input: z.object({ name, snapshot: snapshot.optional() }),
    output: z.object({ owners: z.array(z.string()) }),
  },
  /** Makes a disk stand on nothing: copies what it shares. */
  "vdi.flatten": { kind: "work", input: nameInput, output: vdiEntry },
  /** What differs between two points of a family. `to` is the working VDI if absent. */
  "vdi.diff": {
    kind: "query",
    input: z.object({
      name,
      from: snapshot,
      to: snapshot.optional(),
      offset: bytes.default(0),
    }),
    output: rangePage,
  },
  "vdi.map": {
    kind: "query",
    input: z.object({ name, snapshot: snapshot.optional(), offset: bytes.default(0) }),
    output: rangePage,
  },
  /** Reads every block of a point and its checksum. */
  "vdi.check": {
    kind: "work",
    input: z.object({ name, snapshot: snapshot.optional() }),
    output: z.object({ checkedBytes: bytes, findings: z.array(finding) }),
  },
  /** Space that disks whose names have the pattern may take together; null: no quota. */
  "quota.set": {
    kind: "change",
    input: z.object({ pattern: z.string().min(1).max(255), limitBytes: bytes.nullable() }),
    output: empty,
  },
  "quota.list": {
    kind: "query",
    input: empty,
    output: z.array(
      z.object({
        pattern: z.string(),
        limitBytes: bytes,
        usedBytes: bytes,
        disks: z.number().int().nonnegative(),
      }),
    ),
  },
  "store.info": { kind: "query", input: empty, output: storeInfo },
  "store.check": {
    kind: "work",
    input: z.object({ repair: z.boolean().default(false) }),
    output: z.object({ checkedBytes: bytes, findings: z.array(finding) }),
  },
  /** Cleans until nothing worth cleaning is left. */
  "store.clean": {
    kind: "work",
    input: empty,
    output: z.object({ freedBytes: bytes, usedBytes: bytes, liveBytes: bytes }),
  },
  /** A record, segment, map or checkpoint by key, as text; the keys below a prefix if it ends in "/". */
  "store.inspect": {
    kind: "query",
    input: z.object({ key: z.string() }),
    output: z.object({ lines: z.array(z.string()) }),
  },
  ...vmCallShapes,
} as const satisfies Record<string, CallShape>;

export type CallName = keyof typeof calls;
export type CallInput<N extends CallName> = z.input<(typeof calls)[N]["input"]>;
export type CallArguments<N extends CallName> = z.output<(typeof calls)[N]["input"]>;
export type CallOutput<N extends CallName> = z.output<(typeof calls)[N]["output"]>;

export interface Progress {
  doneBytes: number;
  totalBytes: number;
}

export interface CallContext {
  /** Told now and then by calls of kind "work". */
  progress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

/** The one way to ask for anything, in this process or of a running server. */
export interface Control {
  call<N extends CallName>(
    name: N,
    input: CallInput<N>,
    context?: CallContext,
  ): Promise<CallOutput<N>>;
}
