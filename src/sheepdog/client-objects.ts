import { assert } from "../base/assert.ts";
import { isPending, settled } from "../base/completion.ts";
import type { RangeLock } from "../base/range-lock.ts";
import type { SheepdogClient } from "./client.ts";
import { pieceBytesMax } from "./client-limits.ts";
import type { Oid } from "./wire-oid.ts";

/** A part of a request that lies in one object. */
export interface ObjectPart {
  /** Which object of the disk. */
  index: number;
  /** Where in the object. */
  at: number;
  /** Where in the request. */
  from: number;
  length: number;
}

export function dataOid(vid: number, index: number): Oid {
  return { kind: "data", vid, index };
}

export function vmStateOid(vid: number, index: number): Oid {
  return { kind: "vmstate", vid, index };
}

/** A range of a disk by objects, in order. */
export function* partsOf(
  offset: number,
  length: number,
  objectBytes: number,
): Generator<ObjectPart> {
  for (let from = 0; from < length; ) {
    const at = (offset + from) % objectBytes;
    const count = Math.min(objectBytes - at, length - from);
    yield { index: (offset + from - at) / objectBytes, at, from, length: count };
    from += count;
  }
}

/** What a read needs of a point. */
export interface ReadablePoint {
  client: SheepdogClient;
  /** The vid whose object it is, for each object of the disk; 0: a hole. */
  entriesNow: () => Uint32Array;
  objectBytes: number;
  /** Held, shared, while an object is read; none for what nobody changes. */
  locks?: RangeLock;
}

/** Fills all of `target`. When it fails nothing of it is under way any more. */
export async function readParts(
  point: ReadablePoint,
  target: Uint8Array,
  offset: number,
): Promise<void> {
  const { client, objectBytes, locks } = point;
  const readPart = async ({ index, at, from, length }: ObjectPart): Promise<void> => {
    const asked = locks?.acquire(index, index + 1, "shared");
    const hold = asked !== undefined && isPending(asked) ? await asked : asked;
    try {
      const part = target.subarray(from, from + length);
      const vid = point.entriesNow()[index] ?? 0;
      if (vid === 0) part.fill(0);
      else
        await inPieces(at, length, (start, end) =>
          client.readObject(dataOid(vid, index), start, part.subarray(start - at, end - at)),
        );
    } finally {
      if (hold !== undefined) locks?.release(hold);
    }
  };
  await settled([...partsOf(offset, target.length, objectBytes)].map(readPart));
}

/** Calls `send` for pieces of a range within an object, all at once. */
export async function inPieces(
  at: number,
  length: number,
  send: (start: number, end: number) => Promise<void>,
): Promise<void> {
  if (length <= pieceBytesMax) return send(at, at + length);
  const pieces: Promise<void>[] = [];
  for (let done = 0; done < length; done += pieceBytesMax) {
    pieces.push(send(at + done, at + Math.min(length, done + pieceBytesMax)));
  }
  await settled(pieces);
}

/** Runs `task` over `items`, some at once. Stops at a failure and throws it when all have ended. */
export async function eachOf<Item>(
  items: Iterable<Item>,
  atOnce: number,
  task: (item: Item) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let failed = false;
  const worker = async (): Promise<void> => {
    for (let next = iterator.next(); next.done !== true && !failed; next = iterator.next()) {
      try {
        await task(next.value);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await settled(Array.from({ length: atOnce }, worker));
}

/** The bytes [start, end) of the concatenation. */
export function sliceOf(
  chunks: readonly Uint8Array[],
  start: number,
  end: number,
): readonly Uint8Array[] {
  const slices: Uint8Array[] = [];
  let position = 0;
  for (const chunk of chunks) {
    const from = Math.max(start - position, 0);
    const to = Math.min(end - position, chunk.length);
    if (from < to) slices.push(chunk.subarray(from, to));
    position += chunk.length;
  }
  assert(end <= position, "a slice past the end");
  return slices;
}
