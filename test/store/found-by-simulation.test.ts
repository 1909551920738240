import assert from "node:assert/strict";
import { test } from "node:test";
import type { MemoryFiles } from "../../sim/memory-files.ts";
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

/** Holds the next call of a kind on such a path until it is let go. */
function holdNext(
  files: MemoryFiles,
  operation: "open" | "write" | "sync",
  on: (path: string) => boolean,
): { reached: Promise<void>; letGo: () => void } {
  const reached = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  files.before = (event) => {
    if (event.operation !== operation || !on(event.path)) return undefined;
    files.before = undefined;
    reached.resolve();
    return held.promise;
  };
  return { reached: reached.promise, letGo: held.resolve };
}
