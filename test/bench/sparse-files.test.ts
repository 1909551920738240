import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { test } from "node:test";
import { buildBigDisk } from "../../bench/growth/big-disk.ts";
import { sparseFiles } from "../../bench/growth/sparse-files.ts";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { Scratch } from "../support/server-process.ts";

const host = createNodeHost({ logLevel: "silent" });

test("chunks of the shared buffer become holes, everything else is written", async () => {
  await using scratch = await Scratch.create();
  const zeros = new Uint8Array(2 ** 20);
  const path = scratch.file("file");
  const files = sparseFiles(host.files, zeros.buffer);
  const handle = await files.open(path, { access: "create" });
  await handle.write([Buffer.from("head"), zeros, Buffer.from("middle"), zeros.subarray(1)], 0);
  await handle.sync();
  await handle.close();
  const expected = ["head", zeros, "middle", zeros.subarray(1)].map((part) => Buffer.from(part));
  assert.ok((await readFile(path)).equals(Buffer.concat(expected)));
  assert.ok((await stat(path)).blocks * 512 < 2 ** 17);
});

test("a disk built of holes is whole for the store, and every block of it is mapped", async () => {
  await using scratch = await Scratch.create();
  const directory = scratch.file("store");
  const sizeBytes = 96 * 2 ** 20;
  await buildBigDisk({ directory, name: "disk", sizeBytes });
  const store = await openLocalStore({ directory }, { host });
  try {
    const checked = await store.control.call("vdi.check", { name: "disk" });
    assert.deepEqual(checked, { checkedBytes: sizeBytes, findings: [] });
    const { ranges } = await store.control.call("vdi.map", { name: "disk", offset: 0 });
    assert.deepEqual(ranges, [{ offset: 0, length: sizeBytes, kind: "data", depth: 1 }]);
  } finally {
    await store.close();
  }
});
