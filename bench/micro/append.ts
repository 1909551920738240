import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { entryKind } from "../../src/store/formats/batch.ts";
import type { LogSink } from "../../src/store/log/append.ts";
import { LogWriter } from "../../src/store/log/log-writer.ts";
import { SpareFiles } from "../../src/store/log/spare-files.ts";
import { MapNodes } from "../../src/store/map/map-nodes.ts";
import { PointMap } from "../../src/store/map/point-map.ts";
import { Point } from "../../src/store/point.ts";
import { SegmentTable } from "../../src/store/segment.ts";
import { SpaceGuard } from "../../src/store/space-guard.ts";
import { blockCrcs } from "../../src/store/tip.ts";
import type { MicroBench } from "./micro-bench.ts";

const blockBytes = 4096;
const log = 1;

/** Into files of this machine, with nothing above: applied operations are only counted. */
async function openLog(onApply: () => void) {
  const directory = await mkdtemp(join(tmpdir(), "kelpie-append-"));
  const host = createNodeHost({ logLevel: "warn" });
  const { files, clock, timers, log: logger } = host;
  const reader = { read: () => Promise.reject(new Error("nothing is stored")) };
  const map = new PointMap(new MapNodes({ limitBytes: 2 ** 20 }, { reader }));
  const owner = new Point(1, 2 ** 40, map);
  const segments = new SegmentTable();
  const sink: LogSink = {
    createSegment: (of, number) => segments.create({ log: of, number, owner }),
    dropSegment: (segment) => segments.remove(segment),
    prepare: () => undefined,
    apply: onApply,
    giveUpCutsAfter: () => {},
  };
  const segmentBytesMax = 64 * 2 ** 20;
  const space = new SpaceGuard({ directory }, { files, clock });
  const spares = new SpareFiles(
    { directory: join(directory, "spare"), segmentBytesMax },
    { files, log: logger, space },
  );
  const writer = new LogWriter(
    {
      log,
      first: 0,
      storeId: Buffer.alloc(16, 9),
      directory,
      fileName: (number) => `segment-${number}`,
      segmentBytesMax,
      syncBytes: 2 ** 40,
    },
    { files, log: logger, sink, timers, spares },
  );
  return { writer, directory };
}

function append(together: number): MicroBench {
  return {
    name: `append: a block to a log in a file, ${together} in a batch`,
    prepare: async () => {
      let applied = 0;
      const { writer, directory } = await openLog(() => {
        applied++;
      });
      const chunks = [Buffer.alloc(blockBytes, 7)];
      const crcs = blockCrcs(chunks, 1);
      const one = (block: number) =>
        writer.append({ kind: entryKind.data, block, count: 1, chunks, crcs });
      return {
        async run(count) {
          for (let done = 0; done < count; ) {
            let last: Promise<void> | undefined;
            for (let at = 0; at < together && done < count; at++, done++) last = one(done);
            await last;
          }
        },
        check(count) {
          assert.equal(applied, count);
          assert.ok(writer.appendedBytes >= count * blockBytes);
        },
        async close() {
          await writer.close();
          await rm(directory, { recursive: true });
        },
      };
    },
  };
}

export const appendBenches = [append(32), append(1)];
