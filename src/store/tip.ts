import { assert } from "../base/assert.ts";
import { lengthOf } from "../base/bytes.ts";
import type { Completion } from "../base/completion.ts";
import { crc32 } from "../base/crc32.ts";
import { Mutex } from "../base/mutex.ts";
import { releaseBlock } from "./accounting.ts";
import { blockUnits, entryKind } from "./formats/batch.ts";
import { chunkBlocks, leafBlocks, pageChunks } from "./formats/map-node.ts";
import type { AppendOperation, LogSink } from "./log/append.ts";
import type { LogWriter } from "./log/log-writer.ts";
import { type Chunk, crcsAt, positionsAt, zeroChunk } from "./map/nodes.ts";
import type { Point } from "./point.ts";
import { type BlockSource, blockBytes, readBlocks } from "./read-blocks.ts";
import { holeId, type Segment, type SegmentTable, zeroId } from "./segment.ts";
import type { SpaceGuard } from "./space-guard.ts";

/** Blocks of one operation, so that a batch stays within its limits. */
const operationBlocksMax = 1024;
const pageBlocks = pageChunks * chunkBlocks;
/** Blocks made zero by one operation: 1 GiB, whose map takes 3 MiB of memory at most. */
const zeroBlocksMax = 256 * chunkBlocks;
/** What such an operation takes: a header, and the map that it changes. */
const zeroCostBytes = 4096;

export interface TipComponents {
  source: BlockSource;
  segments: SegmentTable;
  space: SpaceGuard;
  /** Starts a log for the tip: one catalog record. */
  openLog: (tip: Tip) => Promise<LogWriter>;
  /** To be waited for before anything is written, when there is too much of changed maps in memory. */
  relieve: () => Promise<void> | undefined;
}

/**
 * The writable end of a line of points: reads and writes whole blocks. A snapshot moves it on to a
 * new point, a rollback to a point on another one; whoever holds the tip does not notice.
 */
export class Tip implements LogSink {
  readonly #components: TipComponents;
  point: Point;
  log: LogWriter | undefined;
  #opening: Promise<LogWriter> | undefined;
  /** Held while the tip moves to another point, and while it gets a log: not both at once. */
  readonly structure = new Mutex();
  /** Of a store in an object store: a flush does not wait for that. */
  flushesLocally = false;
  /** Cuts whose record is not there yet, oldest first, and what gives each up. */
  readonly pendingCuts: { number: number; giveUp: () => void }[] = [];

  constructor(point: Point, components: TipComponents) {
    this.point = point;
    this.#components = components;
  }

  read(target: Uint8Array, first: number): Completion<void> {
    return readBlocks(this.#components.source, this.point.map, { target, first });
  }

  /** Writes whole blocks; `chunks` together are a multiple of 4,096 bytes. */
  write(chunks: readonly Uint8Array[], first: number): Promise<void> {
    const relief = this.#components.relieve();
    if (relief === undefined && this.log !== undefined) return this.#write(this.log, chunks, first);
    return this.#writeLater(relief, chunks, first);
  }

  async #writeLater(
    relief: Promise<void> | undefined,
    chunks: readonly Uint8Array[],
    first: number,
  ): Promise<void> {
    if (relief !== undefined) await relief;
    await this.#write(this.log ?? (await this.#openLog()), chunks, first);
  }

  #write(log: LogWriter, chunks: readonly Uint8Array[], first: number): Promise<void> {
    const bytes = lengthOf(chunks);
    assert(bytes % blockBytes === 0);
    this.#components.space.admit(bytes);
    const count = bytes / blockBytes;
    if (count <= operationBlocksMax) {
      return log.append({
        kind: entryKind.data,
        block: first,
        count,
        chunks,
        crcs: blockCrcs(chunks, count),
      });
    }
    const appends: Promise<void>[] = [];
    let done = 0;
    for (const piece of splitChunks(chunks, operationBlocksMax * blockBytes)) {
      const pieceCount = Math.min(operationBlocksMax, count - done);
      const crcs = blockCrcs(piece, pieceCount);
      const block = first + done;
      const kind = entryKind.data;
      appends.push(log.append({ kind, block, count: pieceCount, chunks: piece, crcs }));
      done += pieceCount;
    }
    return allSettled(appends);
  }

  /** Makes blocks a hole, or zeros that stay allocated. What is so already costs nothing. */
  async zero(first: number, count: number, kind: "hole" | "zero"): Promise<void> {
    const end = first + count;
    const operations: AppendOperation[] = [];
    for (let block = first; block < end; ) {
      const pageIndex = Math.floor(block / pageBlocks);
      const pageEnd = Math.min(end, (pageIndex + 1) * pageBlocks);
      if (this.point.map.root.pages === undefined) await this.point.map.load(0);
      const isEmpty = kind === "hole" && this.point.map.pageIsEmpty(pageIndex);
      for (; !isEmpty && block < pageEnd; ) {
        const pieceEnd = Math.min(pageEnd, (Math.floor(block / zeroBlocksMax) + 1) * zeroBlocksMax);
        const count = pieceEnd - block;
        if (kind === "zero" || !this.#isHole(block, count)) {
          operations.push({ kind: entryKind[kind], block, count, chunks: [], crcs: noCrcs });
        }
        block = pieceEnd;
      }
      block = pageEnd;
    }
    // One after the other: flushes and other writers go in between.
    for (const operation of operations) {
      this.#components.space.admit(zeroCostBytes, kind === "hole" ? "discard" : "data");
      const log = this.log ?? (await this.#openLog());
      await log.append(operation);
    }
  }

  /** Whether nothing is mapped there, as far as can be told without loading anything. */
  #isHole(block: number, count: number): boolean {
    const last = Math.floor((block + count - 1) / chunkBlocks);
    for (let index = Math.floor(block / chunkBlocks); index <= last; index++) {
      if (this.point.map.lookup(index) !== undefined) return false;
    }
    return true;
  }

  /** Makes a hole of all from the end of the disk to where it ended before. */
  async forgetBeyondEnd(sizeBefore: number): Promise<void> {
    const end = this.point.sizeBytes;
    const first = Math.ceil(end / blockBytes);
    const count = Math.ceil(sizeBefore / blockBytes) - first;
    if (count > 0) await this.zero(first, count, "hole");
    const inside = end % blockBytes;
    if (inside === 0) return;
    const block = Buffer.alloc(blockBytes);
    await this.read(block, first - 1);
    if (block.subarray(inside).every((byte) => byte === 0)) return;
    await this.write([block.fill(0, inside)], first - 1);
  }

  /** What was written before is safe: where the store is, or on the disk of this machine. */
  flush(): Completion<void> {
    return this.flushesLocally ? this.log?.flush() : this.log?.settle();
  }

  /** The tip's log, opened if it has none yet. */
  openLog(): Promise<LogWriter> {
    return this.log === undefined ? this.#openLog() : Promise.resolve(this.log);
  }

  createSegment(log: number, number: number): Segment {
    return this.#components.segments.create({ log, number, owner: this.point });
  }

  dropSegment(segment: Segment): void {
    this.#components.segments.remove(segment);
  }

  giveUpCutsAfter(segmentNumber: number): void {
    for (const cut of [...this.pendingCuts]) if (cut.number > segmentNumber) cut.giveUp();
  }

  prepare(operations: readonly AppendOperation[]): Promise<void> | undefined {
    let loads: Promise<unknown>[] | undefined;
    const { map } = this.point;
    for (const { block, count, kind } of operations) {
      const lastChunk = Math.floor((block + count - 1) / chunkBlocks);
      for (let index = Math.floor(block / chunkBlocks); index <= lastChunk; index++) {
        if (map.lookup(index) !== "absent") continue;
        loads ??= [];
        loads.push(map.load(index));
      }
      assert(kind === entryKind.data || count <= zeroBlocksMax);
    }
    return loads === undefined ? undefined : allSettled(loads);
  }

  apply(operation: AppendOperation, segment: Segment, position: number): void {
    if (operation.kind === entryKind.data) {
      const { segments } = this.#components;
      applyData(this.point, operation, { segment, position, crcsFrom: 0, segments });
    } else {
      const id = operation.kind === entryKind.zero ? zeroId : holeId;
      applyZeros(this.point, operation, { id, segments: this.#components.segments });
    }
  }

  #openLog(): Promise<LogWriter> {
    this.#opening ??= this.#components.openLog(this).finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }
}

interface DataPlace {
  segment: Segment;
  /** Of the first block, in units. */
  position: number;
  /** Where the operation's checksums begin. */
  crcsFrom: number;
  segments: SegmentTable;
}

/** Maps blocks to where they were written. Their chunks must be resident or holes. */
export function applyData(
  point: Point,
  operation: { block: number; count: number; crcs: Uint32Array },
  place: DataPlace,
): void {
  const { segment, segments, crcsFrom } = place;
  const { block: first, count, crcs } = operation;
  for (let done = 0; done < count; ) {
    const block = first + done;
    const chunk = point.map.writable(Math.floor(block / chunkBlocks));
    const words = chunk.words as Uint32Array;
    const slot = block % chunkBlocks;
    const run = Math.min(count - done, chunkBlocks - slot);
    for (let index = 0; index < run; index++) {
      const at = slot + index;
      const old = words[at] as number;
      if (old !== holeId) releaseBlock(point, old, segments);
      words[at] = segment.id;
      words[positionsAt + at] = place.position + (done + index) * blockUnits;
      words[crcsAt + at] = crcs[crcsFrom + done + index] as number;
    }
    markDirty(chunk, slot, run);
    done += run;
  }
  point.mappedBlocks += count;
  point.exclusiveBlocks += count;
  segment.blocks += count;
  segment.bodyBlocks += count;
  segment.live += count;
}

export function applyZeros(
  point: Point,
  operation: { block: number; count: number },
  target: { id: typeof holeId | typeof zeroId; segments: SegmentTable },
): void {
  const end = operation.block + operation.count;
  for (let block = operation.block; block < end; ) {
    const index = Math.floor(block / chunkBlocks);
    const slot = block % chunkBlocks;
    const run = Math.min(end - block, chunkBlocks - slot);
    zeroInChunk(point, { index, slot, run }, target);
    block += run;
  }
}

function zeroInChunk(
  point: Point,
  place: { index: number; slot: number; run: number },
  target: { id: typeof holeId | typeof zeroId; segments: SegmentTable },
): void {
  const { index, slot, run } = place;
  const found = point.map.lookup(index);
  assert(found !== "absent");
  const isWhole = run === chunkBlocks;
  if (found === undefined && target.id === holeId) return;
  if (isWhole && found === zeroChunk && target.id === zeroId) return;
  if (isWhole) {
    if (found !== undefined) releaseAll(point, found, target.segments);
    point.map.replace(index, target.id === zeroId ? zeroChunk : undefined);
  } else {
    const chunk = point.map.writable(index);
    const words = chunk.words as Uint32Array;
    for (let at = slot; at < slot + run; at++) {
      const old = words[at] as number;
      if (old !== holeId) releaseBlock(point, old, target.segments);
      words[at] = target.id;
      words[positionsAt + at] = 0;
      words[crcsAt + at] = 0;
    }
    markDirty(chunk, slot, run);
  }
  if (target.id === zeroId) point.mappedBlocks += run;
}

function releaseAll(point: Point, chunk: Chunk, segments: SegmentTable): void {
  const words = chunk.words as Uint32Array;
  for (let at = 0; at < chunkBlocks; at++) {
    const old = words[at] as number;
    if (old !== holeId) releaseBlock(point, old, segments);
  }
}

function markDirty(chunk: Chunk, slot: number, run: number): void {
  const last = Math.floor((slot + run - 1) / leafBlocks);
  for (let leaf = Math.floor(slot / leafBlocks); leaf <= last; leaf++) {
    chunk.dirtyLeaves |= 1 << leaf;
  }
}

/** One CRC-32 for each block of the concatenation of `chunks`. */
export function blockCrcs(chunks: readonly Uint8Array[], count: number): Uint32Array {
  const crcs = new Uint32Array(count);
  let block = 0;
  let filled = 0;
  let crc = 0;
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      const take = Math.min(blockBytes - filled, chunk.length - at);
      const piece = take === chunk.length ? chunk : chunk.subarray(at, at + take);
      crc = crc32(piece, crc);
      filled += take;
      at += take;
      if (filled === blockBytes) {
        crcs[block++] = crc;
        filled = 0;
        crc = 0;
      }
    }
  }
  assert(block === count && filled === 0);
  return crcs;
}

function splitChunks(chunks: readonly Uint8Array[], pieceBytes: number): Uint8Array[][] {
  const pieces: Uint8Array[][] = [[]];
  let room = pieceBytes;
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      if (room === 0) {
        pieces.push([]);
        room = pieceBytes;
      }
      const take = Math.min(room, chunk.length - at);
      pieces.at(-1)?.push(chunk.subarray(at, at + take));
      room -= take;
      at += take;
    }
  }
  return pieces;
}

/** Waits for all of them, then fails with the first failure. */
export async function allSettled(promises: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === "rejected") throw result.reason;
  }
}

const noCrcs = new Uint32Array(0);
