import { z } from "zod";
import { KelpieError } from "../../base/errors.ts";
import { decodeJsonFrame, encodeJsonFrame, type FrameKind, frameType } from "./frame.ts";

/**
 * A checkpoint: a frame of type 3 around JSON. It is the state after catalog record `records` and
 * after the batches of each open log that it names; recovery begins here. Rows are arrays, because
 * there may be many; their columns are the tuples below, in that order.
 */
const number = z.number().int().nonnegative();

/** id, parent (0: none), sizeBytes, deleted (0, 1), root reference (0: empty), mapped blocks,
 * exclusive blocks (-1: not known) */
const pointRow = z.tuple([number, number, number, number, number, number, z.number().int()]);
/** id, log, number, owner (point), blocks written, blocks live, endUnits of the raw body,
 * generation, bytes of the current body, blocks in the current body */
const segmentRow = z.tuple([
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
]);
/** log, point, segment and units up to which the maps have it, crc of the last batch before */
const logRow = z.tuple([number, number, number, number, number]);
/** number, generation, bytes */
const mapRow = z.tuple([number, number, number]);

const checkpoint = z.object({
  number,
  records: number,
  timeMs: z.number(),
  nextId: number,
  nextSegmentId: number,
  nextMap: number,
  points: z.array(pointRow),
  segments: z.array(segmentRow),
  logs: z.array(logRow),
  maps: z.array(mapRow),
  /** Of the layer above; opaque here. */
  registry: z.unknown(),
});

export type Checkpoint = z.infer<typeof checkpoint>;
export type PointRow = z.infer<typeof pointRow>;
export type SegmentRow = z.infer<typeof segmentRow>;
export type LogRow = z.infer<typeof logRow>;
export type MapRow = z.infer<typeof mapRow>;

const kind: FrameKind = { type: frameType.checkpoint, version: 1, what: "checkpoint" };

export function encodeCheckpoint(value: Checkpoint): Uint8Array[] {
  return encodeJsonFrame(kind, value);
}

export function decodeCheckpoint(bytes: Uint8Array, object: string): Checkpoint {
  const parsed = checkpoint.safeParse(decodeJsonFrame(kind, bytes, object));
  if (parsed.success) return parsed.data;
  throw new KelpieError("corrupt", `${object} is not valid: ${z.prettifyError(parsed.error)}`);
}

/** Rows may count on each other: each is there once, and what is new gets numbers of its own. */
export function assertSound(checkpoint: Checkpoint, object: string): void {
  const { nextId, nextSegmentId, nextMap, points, segments, logs, maps } = checkpoint;
  const isSound =
    Math.max(nextId, nextMap) <= numbersMax &&
    nextSegmentId <= segmentIdsMax &&
    areNew(points, nextId) &&
    areNew(segments, nextSegmentId) &&
    areNew(logs, nextId) &&
    areNew(maps, nextMap) &&
    new Set(segments.map(([, log, number]) => `${log}/${number}`)).size === segments.length;
  if (!isSound) throw new KelpieError("corrupt", `${object} contradicts itself`);
}

/** So that counting on from them stays exact. */
const numbersMax = 2 ** 52;
/** Maps have room for 32 bits. */
const segmentIdsMax = 2 ** 32;

function areNew(rows: readonly (readonly number[])[], next: number): boolean {
  const numbers = new Set(rows.map(([number = 0]) => number));
  return numbers.size === rows.length && rows.every(([number = 0]) => number < next);
}
