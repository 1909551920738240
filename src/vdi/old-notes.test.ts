import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";
import type { Note } from "./notes.ts";

/* Notes that are read, and not written any more. */

/** A disk as a wipe left it: its content is in a hidden point under an empty tip. */
async function wipedDisk() {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", 2 ** 20);
  const volume = vdis.volume("a");
  await volume.write(filled(1), 0);
  const { tip: hidden } = vdis.registry.find("a");
  const id = vdis.store.allocateId();
  const note: Note = { type: "wipe", name: "a", tip: id };
  await vdis.store.snapshot([{ tip: volume.tip, id }], [note]);
  await volume.trim(0, 4096);
  await volume.flush();
  return { vdis, files, hidden, tip: id };
}

test("a disk that was wiped can be brought back as it was, deleted or not", async () => {
  for (const isDeleted of [false, true]) {
    const { vdis, files, hidden, tip } = await wipedDisk();
    if (isDeleted) {
      const note: Note = { type: "deleteWiped", name: "a", hidden, keep: false };
      await vdis.store.closeTip(vdis.volume("a").tip);
      await vdis.store.commit([{ type: "delete", id: tip }], [note]);
    }
    const again = await openMemoryVdis({}, files.crashKeepingNothing());
    assert.deepEqual(
      again.vdis.registry.discardedOf("a").map(({ why, point }) => [why, point]),
      [["wiped", hidden]],
    );
    if (!isDeleted) assert.equal(await byteAt(again.vdis.volume("a"), 0), 0);
    await again.vdis.undelete("a", {});
    assert.equal(await byteAt(again.vdis.volume("a"), 0), 1);
    await again.vdis.close();
  }
});

test("a wipe that was taken back leaves its disk and nothing to bring back", async () => {
  const { vdis, files, hidden, tip } = await wipedDisk();
  const note: Note = { type: "unwipe", name: "a", hidden };
  await vdis.store.commit([{ type: "delete", id: hidden }], [note]);
  const again = await openMemoryVdis({}, files.crashKeepingNothing());
  assert.deepEqual(again.vdis.registry.discardedOf("a"), []);
  assert.equal(again.vdis.registry.find("a").tip, tip);
  await again.vdis.close();
});

test("a snapshot that got another tag has it", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", 2 ** 20);
  await vdis.snapshot(["a"], "one");
  const { point } = vdis.registry.findSnapshot("a", "one");
  await vdis.note([{ type: "retag", point, tag: "uno" }]);
  const again = await openMemoryVdis({}, files.crashKeepingNothing());
  assert.equal(again.vdis.registry.findSnapshot("a", "uno").point, point);
  await again.vdis.close();
});
