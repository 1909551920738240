import assert from "node:assert/strict";
import { test } from "node:test";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost } from "../../sim/memory-host.ts";
import { openLocalStore } from "../../src/control/local-store.ts";
import { checkStore } from "../../src/store/check.ts";
import { holdNext } from "../support/hold-next.ts";
import { byteAt, filled, type MemoryVdis, openMemoryVdis } from "../support/memory-vdis.ts";

/** What simulated worlds have found, each as the shortest history that shows it. */

test("a checkpoint while a log's first segment is being opened does not skip that segment", async () => {
  const store = await openMemoryVdis();
  const { vdis, files } = store;
  await vdis.create("disk", 2 ** 20);
  const volume = vdis.volume("disk");
  const opening = holdNext(files, "open", (path) => path.startsWith("/store/logs/"));
  const written = volume.write(filled(7), 0);
  await opening.reached;
  await vdis.store.checkpoint();
  opening.letGo();
  await written;
  await volume.flush();
  assert.equal(await firstByteAfter(files.crashKeepingNothing()), 7);
});

test("what is opened while a disk is being deleted does not write to it afterwards", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("disk", 2 ** 20);
  await vdis.volume("disk").write(filled(1), 0);
  await vdis.close();
  const { vdis: again, host } = await openMemoryVdis({}, files.crashKeepingEverything());
  const record = holdNext(host.files, "sync", (path) => path.includes("catalog"));
  const deleted = again.delete("disk");
  await record.reached;
  const late = again.volume("disk");
  const written = assert.rejects(async () => late.write(filled(2), 0), { code: "closed" });
  record.letGo();
  await deleted;
  await written;
  await again.undelete("disk", {});
  assert.equal(await byteAt(again.volume("disk"), 0), 1);
});

test("a checkpoint beside the deletion of a written disk does not fail", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("disk", 2 ** 20);
  await vdis.volume("disk").write(filled(1), 0);
  // The checkpoint has seen the disk's log, and comes to it when that is closed and not yet gone.
  const maps = holdNext(files, "sync", (path) => path.includes("maps"));
  const checkpoint = vdis.store.checkpoint();
  await maps.reached;
  const record = holdNext(files, "sync", (path) => path.includes("catalog"));
  const deleted = vdis.delete("disk");
  await record.reached;
  maps.letGo();
  await checkpoint;
  record.letGo();
  await deleted;
});

/** What the disk begins with when the store is opened again. */
async function firstByteAfter(files: MemoryFiles): Promise<number> {
  const again: MemoryVdis = await openMemoryVdis({}, files);
  const target = Buffer.alloc(4096);
  await again.vdis.volume("disk").read(target, 0);
  return target[0] as number;
}

test("a store that could not be made durable is not opened (seed 4045)", async () => {
  const host = createMemoryHost({ seed: 1 });
  host.files.fail({ operation: "syncDirectory", on: (path) => path === "/" });
  const opening = openLocalStore({ directory: "/store", create: true }, { host });
  await assert.rejects(opening, { code: "io" });
  const store = await openLocalStore({ directory: "/store", create: true }, { host });
  await store.vdis.create("disk", 2 ** 20);
  const left = createMemoryHost({ seed: 2, files: host.files.crashKeepingNothing() });
  const again = await openLocalStore({ directory: "/store" }, { host: left });
  assert.deepEqual([...again.vdis.registry.working.keys()], ["disk"]);
});

test("a segment whose header is damaged does not keep others from being cleaned", async () => {
  const { vdis, files } = await openMemoryVdis({ segmentBytesMax: 32 * 1024 });
  await vdis.create("disk", 2 ** 20);
  const volume = vdis.volume("disk");
  for (let round = 1; round <= 3; round++) {
    for (let block = 0; block < 40; block++) await volume.write(filled(round), block * 4096);
    if (round === 1) await vdis.snapshot(["disk"], "tag");
  }
  await vdis.store.checkpoint();
  const [damaged] = await files.list("/store/logs/0000000000000002");
  const path = `/store/logs/0000000000000002/${damaged}`;
  const bytes = Buffer.from(await files.readFile(path));
  const handle = await files.open(path, { access: "write" });
  await handle.write([Buffer.alloc(512)], 0); // the header
  await handle.write([Buffer.alloc(512)], bytes.length - 512); // and the seal
  await handle.close();
  await vdis.deleteSnapshot("disk", "tag");
  await vdis.store.clean();
  const { usedBytes, liveBytes } = vdis.store.cleaner.totals();
  assert.ok(usedBytes < 1.5 * liveBytes + bytes.length, `${usedBytes} for ${liveBytes}`);
  assert.ok((await files.list("/store/logs/0000000000000002")).includes(damaged as string));
});

test("a block that is overwritten while its segment is looked through is not counted as needed", async () => {
  const settings = { segmentBytesMax: 32 * 1024 };
  const { vdis, files } = await openMemoryVdis(settings);
  await vdis.create("disk", 16 * 2 ** 20);
  for (const block of [0, 1, 1, 1025, 1025]) {
    await vdis.volume("disk").write(filled(1), block * 4096);
  }
  await vdis.close();
  const again = await openMemoryVdis(settings, files.crashKeepingEverything());
  const { store } = again.vdis;
  const [segment] = [...store.state.segments.values()];
  assert.ok(segment !== undefined);
  // Block 0 is looked up; then the map of block 1025 has to be read.
  await again.vdis.volume("disk").read(Buffer.alloc(4096), 0);
  const loading = holdNext(again.files, "read", (path) => path.startsWith("/store/maps/"));
  const cleaned = store.exclusively(() => store.cleaner.clean(segment));
  await loading.reached;
  await again.vdis.volume("disk").write(filled(2), 0);
  loading.letGo();
  await cleaned;
  const { findings } = await checkStore(store, { repair: false });
  assert.deepEqual(
    findings.filter(({ severity }) => severity !== "note"),
    [],
  );
});
