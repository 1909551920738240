import { z } from "zod";

/** Calls about a server that runs: what it is, what it does, what it did in the last hour. */

const name = z.string().min(1);
const bytes = z.number().int().nonnegative();
const timeMs = z.number().nonnegative();
const rate = z.number().nonnegative();

/** Per second, over some seconds. */
export const figures = z.object({
  readOps: rate,
  writeOps: rate,
  /** Flushes, trims, zeros and questions. */
  otherOps: rate,
  readBytes: rate,
  writeBytes: rate,
  /** Requests that were answered with an error. */
  errors: rate,
  /** What half of the requests took at most, and 99 of 100. 0 if there were none. */
  p50Ms: rate,
  p99Ms: rate,
});
export type Figures = z.infer<typeof figures>;

const values = z.array(rate);
export const series = z.object({
  readOps: values,
  writeOps: values,
  otherOps: values,
  readBytes: values,
  writeBytes: values,
  errors: values,
  p50Ms: values,
  p99Ms: values,
});
export type Series = z.infer<typeof series>;

/** Counted by the store since it was opened, and what it holds now. */
export const storeFigures = z.object({
  /** Batches handed to the system, and their bytes. */
  appends: z.number().int(),
  appendedBytes: bytes,
  /** Syncs of segments, and the flushes that were asked for. */
  syncs: z.number().int(),
  flushes: z.number().int(),
  /** Times that data was written again because a sync had failed. */
  syncRepairs: z.number().int(),
  segments: z.number().int(),
  usedBytes: bytes,
  liveBytes: bytes,
  /** Of maps on the disk. */
  mapBytes: bytes,
  freeBytes: bytes,
  reserveBytes: bytes,
  cleanedSegments: z.number().int(),
  cleanedBytes: z.number().int(),
  /** Points that are deleted and not purged yet. */
  deletedPoints: z.number().int(),
  points: z.number().int(),
  /** Maps in memory, and how often one had to be loaded. */
  mapCacheBytes: bytes,
  mapLoads: z.number().int(),
  /** Reads of segments. */
  segmentReads: z.number().int(),
  catalogRecords: z.number().int(),
});
export type StoreFigures = z.infer<typeof storeFigures>;

export const statistics = z.object({
  atMs: timeMs,
  /** What the rates are taken over. */
  intervalMs: z.number().positive(),
  total: figures,
  /** Of exports that were used in the interval: "disk1", "disk1@monday". */
  exports: z.array(figures.extend({ name: z.string() })),
  /** Connections to exports, and requests that are not answered yet. */
  connections: z.number().int().nonnegative(),
  requestsInFlight: z.number().int().nonnegative(),
  /** Absent if the store is elsewhere. */
  store: storeFigures.optional(),
});
export type Statistics = z.infer<typeof statistics>;

export const connectionEntry = z.object({
  protocol: z.string(),
  peer: z.string(),
  /** Empty in the handshake, and of Sheepdog's clients, which may use many. */
  export: z.string(),
  readOnly: z.boolean(),
  /** What was agreed on: "structured replies", contexts. */
  features: z.array(z.string()),
  requests: z.number().int().nonnegative(),
  requestsInFlight: z.number().int().nonnegative(),
});
export type ConnectionEntry = z.infer<typeof connectionEntry>;

const progress = z.object({ doneBytes: z.number(), totalBytes: z.number() });

export const jobEntry = z.object({
  id: z.number().int().positive(),
  /** The call that it is. */
  call: z.string(),
  input: z.unknown(),
  state: z.enum(["running", "done", "failed", "cancelled"]),
  startedMs: timeMs,
  endedMs: timeMs.nullable(),
  /** Null until it has said something. */
  progress: progress.nullable(),
  /** What the call answers, when it is done. */
  result: z.unknown().optional(),
  error: z
    .object({ code: z.string(), message: z.string(), remedy: z.string().optional() })
    .optional(),
});
export type JobEntry = z.infer<typeof jobEntry>;

/** A change of disks or machines that stands in the catalog. */
export const changeEvent = z.object({
  kind: z.literal("change"),
  /** 1, 2, 3 … since the server was started. */
  number: z.number().int().positive(),
  atMs: timeMs,
  what: z.string(),
  /** Of the disk or machine; empty if it has no name any more. */
  name: z.string(),
  /** The tag of a snapshot, why a disk was replaced. */
  detail: z.string(),
});
export type ChangeEvent = z.infer<typeof changeEvent>;

/** What a server tells those that listen. */
export const serverEvent = z.discriminatedUnion("kind", [
  changeEvent,
  z.object({ kind: z.literal("job"), job: jobEntry }),
  z.object({ kind: z.literal("statistics"), statistics }),
]);
export type ServerEvent = z.infer<typeof serverEvent>;

const jobInput = z.object({ id: z.number().int().positive() });
const empty = z.object({});

export const serverCallShapes = {
  "server.info": {
    kind: "query",
    input: empty,
    output: z.object({
      version: z.string(),
      pid: z.number().int(),
      store: z.string(),
      startedMs: timeMs,
      /** NBD addresses as URIs without an export name: "nbd://127.0.0.1:10809", "nbd+unix://?socket=…" */
      nbd: z.array(z.string()),
      /** Where clients of Sheepdog are served: "127.0.0.1:7000", "unix:/srv/disks/sock". */
      sheepdog: z.array(z.string()).default([]),
      /** Where the API and the console are: "http://127.0.0.1:7080". */
      http: z.array(z.string()).default([]),
    }),
  },
  "server.statistics": { kind: "query", input: empty, output: statistics },
  /** The last hour, of one export or of everything. */
  "server.history": {
    kind: "query",
    input: z.object({ export: name.optional() }),
    output: z.object({ fromMs: timeMs, stepMs: z.number().positive(), series }),
  },
  "server.connections": { kind: "query", input: empty, output: z.array(connectionEntry) },
  /** The newest changes, oldest first. */
  "server.changes": { kind: "query", input: empty, output: z.array(changeEvent) },
  /** Begins a call of kind "work" and does not wait for it. */
  "job.start": {
    kind: "change",
    input: z.object({ call: z.string(), input: z.record(z.string(), z.unknown()).default({}) }),
    output: jobEntry,
  },
  /** Those that run, and the last that ended, oldest first. Whoever asked for them. */
  "job.list": { kind: "query", input: empty, output: z.array(jobEntry) },
  "job.info": { kind: "query", input: jobInput, output: jobEntry },
  /** Tells it to stop; it may take a moment. Of one that has ended it is nothing. */
  "job.cancel": { kind: "change", input: jobInput, output: jobEntry },
} as const;
