import assert from "node:assert/strict";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost, type MemoryHost } from "../../sim/memory-host.ts";
import { openDirectoryBackend } from "../../src/store/backend/directory.ts";
import { entryKind, entryOfWords } from "../../src/store/formats/batch.ts";
import { logPrefix, segmentKey } from "../../src/store/keys.ts";
import type { AppendOperation, LogSink } from "../../src/store/log/append.ts";
import { LogWriter } from "../../src/store/log/log-writer.ts";
import { SpareFiles } from "../../src/store/log/spare-files.ts";
import { MapNodes } from "../../src/store/map/map-nodes.ts";
import { PointMap } from "../../src/store/map/point-map.ts";
import { Point } from "../../src/store/point.ts";
import { recoverLog } from "../../src/store/recover-log.ts";
import { SegmentTable } from "../../src/store/segment.ts";
import { SpaceGuard } from "../../src/store/space-guard.ts";
import { blockCrcs } from "../../src/store/tip.ts";

/** Where recovery of a log begins that no checkpoint knows. */
export const start = { log: 7, segment: 0, units: 0, crc: 0 };
export const directory = "/store/logs/0000000000000007";
export const log = 7;

/** A log with nothing above it: its sink keeps where each block was written last. */
export class LogWorld {
  readonly host: MemoryHost;
  readonly writer: LogWriter;
  readonly spares: SpareFiles;
  readonly segments = new SegmentTable();
  /** Block -> where it stands now, and the byte it is made of. */
  readonly places = new Map<number, { segment: number; position: number }>();
  readonly givenUp: number[] = [];
  prepares = 0;

  constructor(settings: { segmentBytesMax?: number; syncBytes?: number; host?: MemoryHost } = {}) {
    this.host = settings.host ?? createMemoryHost({ seed: 1 });
    const nodes = new MapNodes(
      { limitBytes: 2 ** 20 },
      { reader: { read: () => Promise.reject(new Error("nothing is stored")) } },
    );
    const owner = new Point(1, 2 ** 40, new PointMap(nodes));
    const sink: LogSink = {
      createSegment: (of, number) => this.segments.create({ log: of, number, owner }),
      dropSegment: (segment) => this.segments.remove(segment),
      prepare: () => {
        this.prepares++;
        return undefined;
      },
      apply: (operation, segment, position) => {
        for (let at = 0; at < operation.count; at++) {
          const place = { segment: segment.number, position: position + at * 8 };
          if (operation.kind === entryKind.data) this.places.set(operation.block + at, place);
          else this.places.delete(operation.block + at);
        }
      },
      giveUpCutsAfter: (number) => void this.givenUp.push(number),
    };
    const { files, clock, timers } = this.host;
    const segmentBytesMax = settings.segmentBytesMax ?? 2 ** 20;
    const space = new SpaceGuard({ directory: "/store" }, { files, clock });
    this.spares = new SpareFiles(
      { directory: "/store/spare", segmentBytesMax },
      { files, log: this.host.log, space },
    );
    this.writer = new LogWriter(
      {
        log,
        first: 0,
        storeId: Buffer.alloc(16, 9),
        directory,
        fileName: (number) => segmentKey(log, number).slice(logPrefix(log).length),
        segmentBytesMax,
        syncBytes: settings.syncBytes ?? 2 ** 30,
      },
      { files, log: this.host.log, sink, timers, spares: this.spares },
    );
  }

  get files(): MemoryFiles {
    return this.host.files;
  }

  write(block: number, byte: number, count = 1): Promise<void> {
    return this.writer.append(dataOf(block, byte, count));
  }
}

export function dataOf(block: number, byte: number, count = 1): AppendOperation {
  const chunks = [Buffer.alloc(4096 * count, byte)];
  return { kind: entryKind.data, block, count, chunks, crcs: blockCrcs(chunks, count) };
}

/** What a log holds when it is recovered from these files: block -> byte. */
export async function contentOf(files: MemoryFiles): Promise<Map<number, number>> {
  const host = createMemoryHost({ seed: 2, files });
  const backend = await openDirectoryBackend({ root: "/store" }, host);
  const { pieces, damage } = await recoverLog(start, { backend, files, acceptDamage: false });
  assert.equal(damage, undefined);
  const content = new Map<number, number>();
  for (const { number, summary } of pieces) {
    const bytes = await files.readFile(`${directory}/${segmentKey(log, number).slice(-16)}`);
    for (let index = 0; index < summary.entries.length / 4; index++) {
      const { kind, block, count, position } = entryOfWords(summary.entries, index);
      for (let at = 0; at < count; at++) {
        const byte = bytes[position * 512 + at * 4096];
        if (kind === entryKind.data) content.set(block + at, byte as number);
        else content.delete(block + at);
      }
    }
  }
  return content;
}
