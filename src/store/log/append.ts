import type { Files } from "../../host/files.ts";
import type { Log } from "../../host/log.ts";
import type { Timers } from "../../host/timers.ts";
import type { EntryKind } from "../formats/batch.ts";
import type { Segment } from "../segment.ts";
import type { LogUpload } from "../upload/log-upload.ts";
import type { SpareFiles } from "./spare-files.ts";

/** What a log writes: blocks, or that a range is a hole or zeros. */
export interface AppendOperation {
  kind: EntryKind;
  /** First block, and how many. */
  block: number;
  count: number;
  /** Of data: together `count` blocks. They must not change until the append completes. */
  chunks: readonly Uint8Array[];
  /** Of data: one checksum a block. */
  crcs: Uint32Array;
}

/** What the log needs of the point that it writes for. */
export interface LogSink {
  /** Makes a segment known, owned by whoever owns this log's segments from `number` on. */
  createSegment(log: number, number: number): Segment;
  /** Nothing was written to it. */
  dropSegment(segment: Segment): void;
  /** Brings in what `apply` will need. Asked again until it says that there is nothing to wait for. */
  prepare(operations: readonly AppendOperation[]): Promise<void> | undefined;
  /** The operation stands in the segment, its first block at `position` units. */
  apply(operation: AppendOperation, segment: Segment, position: number): void;
  /** A sync failed for segments that a pending snapshot needs: it must be given up, now. */
  giveUpCutsAfter(segmentNumber: number): void;
}

export interface LogWriterComponents {
  files: Files;
  log: Log;
  sink: LogSink;
  timers: Timers;
  spares: SpareFiles;
  /** The way to the object store, for a store that is in one. */
  upload?: LogUpload | undefined;
}

export interface LogWriterSettings {
  log: number;
  /** The first segment number to use. */
  first: number;
  storeId: Uint8Array;
  /** Directory that holds this log's segment files, named by `fileName`. */
  directory: string;
  fileName: (number: number) => string;
  segmentBytesMax: number;
  /** The active segment is synced in the background each time this much was appended. */
  syncBytes: number;
}
