import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SeededRandom } from "../../sim/random.ts";
import { isPending } from "../../src/base/completion.ts";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import type { MicroBench } from "./micro-bench.ts";

const blockBytes = 4096;
const diskBlocks = 4096;

/** Of a disk of 16 MiB that was just written, block by block in no order: all in the page cache. */
function read(blocks: number): MicroBench {
  const what = blocks === 1 ? "a block" : `${blocks} blocks that stand in one place`;
  return {
    name: `read: ${what} of resident data, with checksums`,
    prepare: async () => {
      const directory = await mkdtemp(join(tmpdir(), "kelpie-read-"));
      const host = createNodeHost({ logLevel: "warn" });
      const store = await openLocalStore({ directory, create: true }, { host });
      await store.control.call("vdi.create", { name: "disk", sizeBytes: diskBlocks * blockBytes });
      const { tip } = store.vdis.volume("disk");
      for (let first = 0; first < diskBlocks; first += blocks) {
        const data = Buffer.alloc(blocks * blockBytes);
        for (let at = 0; at < blocks; at++) data.writeUInt32LE(first + at, at * blockBytes);
        await tip.write([data], first);
      }
      const random = new SeededRandom(1);
      const target = Buffer.alloc(blocks * blockBytes);
      let right = 0;
      return {
        async run(count) {
          for (let done = 0; done < count; done++) {
            const first = random.below(diskBlocks / blocks) * blocks;
            const completion = tip.read(target, first);
            if (isPending(completion)) await completion;
            const last = target.readUInt32LE((blocks - 1) * blockBytes);
            if (target.readUInt32LE(0) === first && last === first + blocks - 1) right++;
          }
        },
        check: (count) => assert.equal(right, count),
        async close() {
          await store.close();
          await rm(directory, { recursive: true });
        },
      };
    },
  };
}

export const readBenches = [read(1), read(256)];
