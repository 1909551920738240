import { type Completion, isPending } from "../base/completion.ts";
import { crc32 } from "../base/crc32.ts";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Log } from "../host/log.ts";
import { blockUnits } from "./formats/batch.ts";
import { chunkBlocks } from "./formats/map-node.ts";
import { type Chunk, crcsAt, positionsAt } from "./map/nodes.ts";
import type { PointMap } from "./map/point-map.ts";
import { firstSegmentId, holeId, type SegmentTable } from "./segment.ts";
import type { SegmentReader } from "./segment-reader.ts";

export const blockBytes = 4096;

export interface BlockSource {
  segments: SegmentTable;
  reader: SegmentReader;
  log: Log;
}

/**
 * Fills `target`, whole blocks, from block number `first` on. What is resident is there at once.
 * Every block is checked against its checksum.
 */
export function readBlocks(
  source: BlockSource,
  map: PointMap,
  range: { target: Uint8Array; first: number },
): Completion<void> {
  const count = range.target.length / blockBytes;
  let pending: Promise<void>[] | undefined;
  for (let done = 0; done < count; ) {
    const block = range.first + done;
    const chunk = map.lookup(Math.floor(block / chunkBlocks));
    if (chunk === "absent") {
      const rest = { target: range.target.subarray(done * blockBytes), first: block };
      const loaded = map
        .load(Math.floor(block / chunkBlocks))
        .then(() => readBlocks(source, map, rest));
      return settle(pending, loaded);
    }
    const slot = block % chunkBlocks;
    const run = runLength(chunk, slot, Math.min(count - done, chunkBlocks - slot));
    const target =
      run === count
        ? range.target
        : range.target.subarray(done * blockBytes, (done + run) * blockBytes);
    let read: Completion<void>;
    try {
      read = readRun(source, map, { chunk, slot, block, target });
    } catch (error) {
      // Reads that are under way must be waited for all the same.
      return settle(pending, Promise.reject(error));
    }
    if (isPending(read)) {
      pending ??= [];
      pending.push(read);
    }
    done += run;
  }
  return settle(pending, undefined);
}

function settle(
  pending: Promise<void>[] | undefined,
  last: Promise<void> | undefined,
): Completion<void> {
  if (pending === undefined) return last;
  if (last !== undefined) pending.push(last);
  if (pending.length === 1) return pending[0];
  // All of them, also after one failed: the target must not be written to once this has settled.
  return Promise.allSettled(pending).then((results) => {
    for (const result of results) if (result.status === "rejected") throw result.reason;
  });
}

/** Blocks from `slot` on that can be read at once: all holes, or side by side in one segment. */
function runLength(chunk: Chunk | undefined, slot: number, limit: number): number {
  if (chunk === undefined) return limit;
  const words = chunk.words as Uint32Array;
  const segment = words[slot] as number;
  const position = words[positionsAt + slot] as number;
  const step = segment < firstSegmentId ? 0 : blockUnits;
  let length = 1;
  while (
    length < limit &&
    words[slot + length] === segment &&
    words[positionsAt + slot + length] === position + length * step
  ) {
    length++;
  }
  return length;
}

interface Run {
  chunk: Chunk | undefined;
  slot: number;
  block: number;
  target: Uint8Array;
}

function readRun(source: BlockSource, map: PointMap, run: Run): Completion<void> {
  const words = run.chunk?.words;
  const id = words?.[run.slot] ?? holeId;
  if (words === undefined || id < firstSegmentId) {
    run.target.fill(0);
    return;
  }
  const segment = source.segments.get(id);
  if (segment === undefined) throw new KelpieError("io", `segment ${id} is not known`);
  const position = words[positionsAt + run.slot] as number;
  const done = source.reader.read(segment, position, run.target);
  if (!isPending(done)) {
    checkBlocks(source, run, { crcs: words, at: crcsAt + run.slot });
    return;
  }
  const count = run.target.length / blockBytes;
  // The chunk may change or be dropped while the read is under way.
  const crcs = words.slice(crcsAt + run.slot, crcsAt + run.slot + count);
  return done.then(
    () => checkBlocks(source, run, { crcs, at: 0 }),
    (error) => readAgain(source, map, { run, id, position, error }),
  );
}

/**
 * A segment that was removed held only what had been overwritten: the block stands elsewhere by now. If
 * it does not, data is missing.
 */
async function readAgain(
  source: BlockSource,
  map: PointMap,
  failed: { run: Run; id: number; position: number; error: unknown },
): Promise<void> {
  const { run, id, position, error } = failed;
  if (!isKelpieError(error, "not-found")) throw error;
  const chunk = await map.load(Math.floor(run.block / chunkBlocks));
  const slot = run.block % chunkBlocks;
  if (chunk?.words?.[slot] === id && chunk.words[positionsAt + slot] === position) {
    throw new KelpieError("io", "a segment of this disk is missing", { cause: error });
  }
  await readBlocks(source, map, { target: run.target, first: run.block });
}

function checkBlocks(
  source: BlockSource,
  run: Run,
  expected: { crcs: Uint32Array; at: number },
): void {
  const { target } = run;
  const count = target.length / blockBytes;
  for (let index = 0; index < count; index++) {
    const bytes =
      count === 1 ? target : target.subarray(index * blockBytes, (index + 1) * blockBytes);
    if (crc32(bytes) !== expected.crcs[expected.at + index]) {
      const block = run.block + index;
      source.log.error("checksum mismatch", { block });
      // Nothing damaged is ever handed out.
      target.fill(0);
      throw new KelpieError("corrupt", `block ${block} is damaged: its checksum does not match`);
    }
  }
}
