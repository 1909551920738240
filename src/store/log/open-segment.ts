import { crc32 } from "../../base/crc32.ts";
import type { FileHandle, Files } from "../../host/files.ts";
import {
  type BatchEntry,
  batchHeaderUnits,
  batchSeed,
  blockUnits,
  encodeBatchHeader,
  entryKind,
  unitBytes,
} from "../formats/batch.ts";
import {
  continuesNothing,
  encodeSegmentFooter,
  encodeSegmentHeader,
  encodeSummary,
} from "../formats/segment.ts";
import type { Segment } from "../segment.ts";
import type { AppendOperation, LogSink } from "./append.ts";
import { SummaryBuilder } from "./summary-builder.ts";

/** A place between two batches of a log: what was written before it ends in `crc`. */
export interface SegmentPlace {
  segment: number;
  units: number;
  crc: number;
}

export interface EncodedBatch {
  chunks: Uint8Array[];
  /** Of the whole batch, in the file, in bytes. */
  offset: number;
  bytes: number;
  /** Where its first block stands, and where it ends, in units. */
  blocksAt: number;
  endUnits: number;
  crc: number;
  entries: BatchEntry[];
  crcs: Uint32Array;
}

/** A segment file that is being written, or was and is not synced yet. */
export class OpenSegment {
  readonly segment: Segment;
  readonly handle: FileHandle;
  readonly #header: Uint8Array;
  /** What its header says that it continues. */
  readonly continues: SegmentPlace | undefined;
  readonly #summary = new SummaryBuilder();
  units = 1;
  #crc: number;
  /** Where the checksums of its batch headers begin. */
  readonly seed: number;
  /** The file has held another segment, and what was not written over is still there. */
  readonly #isReused: boolean;
  /** The number of its first batch in the log, from 1; 0 while it has none. */
  firstBatch = 0;
  /** Sealed, or given up: nothing more will be written to the file. */
  ended = false;
  /** What it holds stands elsewhere, and it is closed. */
  isGivenUp = false;
  /** Its directory entry is known to be durable. */
  named = false;
  /** Units 0: nothing of it is known to be durable. */
  syncedPlace: SegmentPlace;

  constructor(
    segment: Segment,
    handle: FileHandle,
    settings: { storeId: Uint8Array; continues: SegmentPlace | undefined; isReused: boolean },
  ) {
    this.#isReused = settings.isReused;
    this.segment = segment;
    this.handle = handle;
    this.continues = settings.continues;
    const { bytes, crc } = encodeSegmentHeader({
      log: segment.log,
      segment: segment.number,
      continuesSegment: settings.continues?.segment ?? continuesNothing,
      continuesUnits: settings.continues?.units ?? 0,
      previous: settings.continues?.crc ?? 0,
      storeId: settings.storeId,
    });
    this.#header = bytes;
    this.#crc = crc;
    this.seed = batchSeed(settings.storeId);
    segment.endUnits = 1;
    segment.bytes = unitBytes;
    this.syncedPlace = { segment: segment.number, units: 0, crc };
  }

  /** Not even its header is in the file. */
  get isEmpty(): boolean {
    return this.units === 1;
  }

  /** All its batches are durable; its seal need not be. */
  get isSynced(): boolean {
    return this.named && this.syncedPlace.units === this.units;
  }

  get place(): SegmentPlace {
    return { segment: this.segment.number, units: this.units, crc: this.#crc };
  }

  isFull(operations: readonly AppendOperation[], bytesMax: number): boolean {
    if (this.isEmpty) return false;
    let blocks = 0;
    for (const operation of operations) blocks += operation.crcs.length;
    const units = batchHeaderUnits(operations.length, blocks) + blocks * blockUnits;
    return (this.units + units) * unitBytes > bytesMax;
  }

  encode(
    operations: readonly AppendOperation[],
    synced: { segment: number; units: number },
    header: "with segment header" | "without segment header" = "with segment header",
  ): EncodedBatch {
    const crcs = joinCrcs(operations);
    const entries = operations.map(({ kind, block, count }) => ({ kind, block, count }));
    const { header: batchHeader, crc } = encodeBatchHeader(
      {
        log: this.segment.log,
        segment: this.segment.number,
        position: this.units,
        previous: this.#crc,
        syncedSegment: synced.segment,
        syncedUnits: synced.units,
      },
      entries,
      crcs,
      this.seed,
    );
    const isFirst = this.isEmpty && header === "with segment header";
    const chunks: Uint8Array[] = isFirst ? [this.#header, batchHeader] : [batchHeader];
    for (const operation of operations) for (const chunk of operation.chunks) chunks.push(chunk);
    const blocksAt = this.units + batchHeader.length / unitBytes;
    const endUnits = blocksAt + crcs.length * blockUnits;
    return {
      chunks,
      offset: isFirst ? 0 : this.units * unitBytes,
      bytes: (endUnits - this.units) * unitBytes,
      blocksAt,
      endUnits,
      crc,
      entries,
      crcs,
    };
  }

  /** The segment's header, where its first batch was written without it. */
  async writeHeader(): Promise<void> {
    await this.handle.write([this.#header], 0);
  }

  /** The batch stands in the file. */
  accept(batch: EncodedBatch): void {
    let position = batch.blocksAt;
    for (const entry of batch.entries) {
      this.#summary.addEntry(entry, position);
      if (entry.kind === entryKind.data) position += entry.count * blockUnits;
    }
    this.#summary.addCrcs(batch.crcs);
    this.units = batch.endUnits;
    this.#crc = batch.crc;
    this.segment.endUnits = batch.endUnits;
    this.segment.bytes += batch.bytes;
  }

  async seal(): Promise<void> {
    try {
      const { bytes, summaryBytes } = encodeSummary(this.#summary.summary());
      const footer = encodeSegmentFooter({
        log: this.segment.log,
        segment: this.segment.number,
        endUnits: this.units,
        summaryBytes,
        lastCrc: this.#crc,
        summaryCrc: crc32(bytes),
      });
      const offset = this.units * unitBytes;
      await this.handle.write([bytes, footer], offset);
      // The footer is looked for at the end of the file.
      if (this.#isReused) await this.handle.truncate(offset + bytes.length + footer.length);
      this.segment.bytes += bytes.length + footer.length;
    } finally {
      this.ended = true;
      this.segment.sealed = true;
    }
  }

  /** Removes the file, to which nothing was written that counts. */
  async discard(files: Files): Promise<void> {
    await this.handle.close();
    // If it stays, recovery finds no valid header in it and removes it.
    await files.remove(this.handle.path).catch(() => {});
  }
}

/** What a batch says is so from here on. */
export function applyBatch(
  sink: LogSink,
  what: { open: OpenSegment; batch: EncodedBatch; operations: readonly AppendOperation[] },
): void {
  let position = what.batch.blocksAt;
  for (const operation of what.operations) {
    sink.apply(operation, what.open.segment, position);
    position += operation.crcs.length * blockUnits;
  }
}

function joinCrcs(operations: readonly AppendOperation[]): Uint32Array {
  const first = operations[0];
  if (operations.length === 1 && first !== undefined) return first.crcs;
  let count = 0;
  for (const operation of operations) count += operation.crcs.length;
  const joined = new Uint32Array(count);
  let at = 0;
  for (const operation of operations) {
    joined.set(operation.crcs, at);
    at += operation.crcs.length;
  }
  return joined;
}
