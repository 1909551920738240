import assert from "node:assert/strict";
import { test } from "node:test";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { filled, type MemoryVdis, openMemoryVdis } from "../support/memory-vdis.ts";

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
