import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { storesDirectory } from "./kept-stores.ts";

/** First bytes of blocks 0 to 3, and of the block at 512 MiB. */
const expected = {
  disk: [1, 1, 1, 4, 2],
  "disk@first": [1, 1, 1, 1, 2],
  "disk@second": [1, 3, 3, 1, 2],
  clone: [1, 3, 3, 1, 2],
};

for (const version of readdirSync(storesDirectory)) {
  for (const name of ["stopped", "killed"]) {
    test(`a store of ${version}, ${name}, opens and reads as it was`, async () => {
      const directory = await mkdtemp(join(tmpdir(), "kelpie-kept-"));
      await cp(join(storesDirectory, version, name), directory, { recursive: true });
      const store = await openLocalStore({ directory }, { host: createNodeHost() });
      try {
        assert.equal(store.vdis.store.replayedEntries > 0, name === "killed");
        for (const [exportName, bytes] of Object.entries(expected)) {
          const client = { protocol: "library" as const, peer: "test" };
          const opened = await store.exports.open(exportName, client);
          const blocks = Buffer.alloc(4 * 4096);
          const far = Buffer.alloc(4096);
          await opened.device.read(blocks, 0);
          await opened.device.read(far, 2 ** 29);
          const found = [0, 1, 2, 3].map((block) => blocks[block * 4096]);
          assert.deepEqual([...found, far[0]], bytes, exportName);
          await opened.close();
        }
        const { findings } = await store.control.call("store.check", {});
        assert.deepEqual(findings, []);
      } finally {
        await store.close();
        await rm(directory, { recursive: true });
      }
    });
  }
}
