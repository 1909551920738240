import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";
import type { Vdis } from "./vdis.ts";

const mebibyte = 2 ** 20;

function snapIds(vdis: Vdis, name: string): number[] {
  return vdis.registry.snapshotsOf(name).map(({ snapId }) => snapId);
}

test("snap ids follow Sheepdog's rules", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  assert.equal(vdis.registry.find("a").snapId, 1, "a first disk of a name has id 1");
  await vdis.snapshot(["a"], "one");
  await vdis.snapshot(["a"], "two");
  await vdis.snapshot(["a"]);
  assert.deepEqual(snapIds(vdis, "a"), [1, 2, 3], "a snapshot keeps the id the disk had");
  assert.equal(vdis.registry.find("a").snapId, 4);
  // Deleting a snapshot leaves the working VDI's own id as it is.
  await vdis.deleteSnapshot("a", "3");
  assert.equal(vdis.registry.find("a").snapId, 4);
  await vdis.snapshot(["a"], "four");
  assert.deepEqual(snapIds(vdis, "a"), [1, 2, 4]);
  // A new working VDI gets one more than the newest snapshot that is left.
  await vdis.deleteSnapshot("a", "four");
  await vdis.rollback(["a"], "one", false);
  assert.equal(vdis.registry.find("a").snapId, 3);
  await vdis.delete("a");
  await vdis.create("a", mebibyte);
  assert.equal(vdis.registry.find("a").snapId, 3);
  // A clone is the first of its own name.
  await vdis.clone("a", "two", "b");
  assert.equal(vdis.registry.find("b").snapId, 1);
  assert.deepEqual(snapIds(vdis, "b"), []);
  // The id of the working VDI selects nothing.
  assert.throws(() => vdis.point("a", "3"), { code: "not-found" });
  await vdis.close();
});

test("names, tags and ids are the same after the store is opened again, cleanly or not", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  await vdis.volume("a").write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  await vdis.clone("a", "one", "b");
  await vdis.store.checkpoint();
  await vdis.snapshot(["a", "b"], "two");
  await vdis.rollback(["a"], "one", false);
  const saved = vdis.registry.save();
  const crashed = await openMemoryVdis({}, files.crashKeepingNothing());
  assert.deepEqual(crashed.vdis.registry.save(), saved);
  assert.equal(await byteAt(crashed.vdis.volume("a"), 0), 1);
  await crashed.vdis.close();
  const again = await openMemoryVdis({}, crashed.files.crashKeepingNothing());
  assert.deepEqual(again.vdis.registry.save(), saved);
  await again.vdis.close();
});

test("what is taken, missing or named twice is refused, and nothing changes", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  await vdis.create("b", mebibyte);
  await vdis.snapshot(["b"], "t");
  const before = vdis.registry.save();
  const records = vdis.store.catalog.last;
  await assert.rejects(vdis.create("a", mebibyte), { code: "exists" });
  await assert.rejects(vdis.clone("b", "t", "a"), { code: "exists" });
  await assert.rejects(vdis.clone("b", "no", "c"), { code: "not-found" });
  await assert.rejects(vdis.clone("no", "t", "c"), { code: "not-found" });
  await assert.rejects(vdis.snapshot(["a", "no"], "t"), { code: "not-found" });
  await assert.rejects(vdis.snapshot(["a", "b"], "t"), { code: "exists" });
  await assert.rejects(async () => vdis.snapshot(["a", "a"], "u"), { code: "invalid" });
  await assert.rejects(vdis.rollback(["a", "b"], "t", false), { code: "not-found" });
  await assert.rejects(vdis.undelete("a", {}), { code: "not-found" });
  await assert.rejects(vdis.resize("a", 512, false), { code: "invalid" });
  assert.deepEqual(vdis.registry.save(), before);
  assert.equal(vdis.store.catalog.last, records);
  await vdis.close();
});

test("of many that create one name at the same time one wins", async () => {
  const { vdis } = await openMemoryVdis();
  const all = await Promise.allSettled(
    Array.from({ length: 20 }, (_, at) => vdis.create("a", (at + 1) * mebibyte)),
  );
  assert.equal(all.filter(({ status }) => status === "fulfilled").length, 1);
  await vdis.close();
});

test("rollback takes the disk back, keeps newer snapshots, makes none, and can be undone", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  const volume = vdis.volume("a");
  await volume.write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  await volume.write(filled(2), 0);
  await vdis.snapshot(["a"], "two");
  await volume.write(filled(3), 0);
  const records = vdis.store.catalog.last;
  await vdis.rollback(["a"], "one", false);
  assert.equal(vdis.store.catalog.last, records + 1, "one record");
  assert.equal(await byteAt(volume, 0), 1);
  assert.deepEqual(snapIds(vdis, "a"), [1, 2]);
  const tip = vdis.point("a");
  assert.equal(tip.parent, vdis.point("a", "one"), "the tip stands on the snapshot itself");
  await volume.write(filled(4), 4096);
  // The discarded tip and the present one change places, as often as one likes.
  await vdis.undelete("a", {});
  assert.equal(await byteAt(volume, 0), 3);
  assert.equal(await byteAt(volume, 4096), 0);
  await vdis.undelete("a", {});
  assert.equal(await byteAt(volume, 0), 1);
  assert.equal(await byteAt(volume, 4096), 4);
  await vdis.rollback(["a"], "two", false);
  assert.equal(await byteAt(volume, 0), 2);
  await vdis.close();
});

test("a deleted disk comes back under its name or another, also after a restart", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  await vdis.volume("a").write(filled(7), 8192);
  const old = vdis.volume("a");
  await vdis.delete("a");
  assert.throws(() => vdis.point("a"), { code: "not-found" });
  assert.throws(() => void old.read(Buffer.alloc(512), 0), { code: "closed" });
  await vdis.close();
  const again = await openMemoryVdis({}, files.crashKeepingNothing());
  await again.vdis.undelete("a", { as: "b" });
  assert.equal(await byteAt(again.vdis.volume("b"), 8192), 7);
  await again.vdis.delete("b");
  await again.vdis.undelete("b", {});
  assert.equal(await byteAt(again.vdis.volume("b"), 8192), 7);
  await again.vdis.close();
});

test("bringing a disk back and giving it up at the same time: one of them happens", async () => {
  for (const first of ["purge", "undelete"] as const) {
    const { vdis } = await openMemoryVdis();
    await vdis.create("a", mebibyte);
    await vdis.volume("a").write(filled(7), 0);
    await vdis.delete("a");
    const actions = { purge: () => vdis.purge("a"), undelete: () => vdis.undelete("a", {}) };
    const second = first === "purge" ? "undelete" : "purge";
    const [one, two] = [actions[first](), actions[second]()];
    await Promise.allSettled([one, two]);
    await vdis.store.clean();
    if (vdis.registry.working.has("a")) {
      assert.equal(vdis.point("a").deleted, false, "a disk that can be seen is not deleted");
      assert.equal(await byteAt(vdis.volume("a"), 0), 7);
    } else {
      assert.equal(vdis.registry.discardedOf("a").length, 0);
    }
    await vdis.close();
  }
});

test("a tip that is on its way back is not given up", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  await vdis.volume("a").write(filled(7), 0);
  await vdis.delete("a");
  const purges: Promise<number>[] = [];
  files.before = ({ operation, path }) => {
    if (operation === "link" && path.startsWith("/store/catalog/") && purges.length === 0) {
      purges.push(vdis.purge("a"));
    }
  };
  await vdis.undelete("a", {});
  await Promise.all(purges);
  assert.equal(purges.length, 1, "it came while the record was written");
  await vdis.store.clean();
  assert.equal(vdis.point("a").deleted, false);
  assert.equal(await byteAt(vdis.volume("a"), 0), 7);
  await vdis.close();
});

test("who gives up what is being given up already waits for it, and does not count it", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  await vdis.delete("a");
  const first = vdis.purge("a");
  assert.equal(await vdis.purge(), 0);
  assert.equal(vdis.registry.discarded.size, 0);
  assert.equal(await first, 1);
  await vdis.close();
});

test("flatten makes a disk stand on nothing, and reads the same", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", 8 * mebibyte);
  await vdis.volume("a").write(filled(1), 4096);
  await vdis.volume("a").zero(5 * mebibyte, mebibyte, { keepAllocated: true });
  await vdis.snapshot(["a"], "one");
  await vdis.volume("a").write(filled(2), 6 * mebibyte);
  await vdis.flatten("a");
  assert.equal(vdis.point("a").parent, undefined);
  assert.equal(await byteAt(vdis.volume("a"), 4096), 1);
  assert.equal(await byteAt(vdis.volume("a"), 6 * mebibyte), 2);
  assert.equal(vdis.point("a").mappedBlocks, 2 + 256);
  await vdis.close();
});

test("what is written while a disk is flattened is never lost", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", 64 * mebibyte);
  const volume = vdis.volume("a");
  for (let at = 0; at < 16; at++) await volume.write(filled(1), at * 4 * mebibyte);
  await vdis.snapshot(["a"], "one");
  let written: Promise<void> | undefined;
  const flattened = vdis.flatten("a", {
    progress: ({ doneBytes }) => {
      // The first block has been copied by now; nobody is attached.
      if (doneBytes >= 8 * 4096) written ??= Promise.resolve(volume.write(filled(9), 0));
    },
  });
  const [outcome] = await Promise.allSettled([flattened]);
  await written;
  assert.equal(await byteAt(volume, 0), 9, `flatten was ${outcome.status}`);
  await vdis.close();
});

test("an attached disk is rolled back only live, and never deleted, shrunk or flattened", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  await vdis.snapshot(["a"], "one");
  await vdis.resize("a", 2 * mebibyte, false);
  await vdis.snapshot(["a"], "two");
  const client = { peer: "x", export: "a", readOnly: false };
  const detach = vdis.attachments.add("a", client as Parameters<typeof vdis.attachments.add>[1]);
  await assert.rejects(vdis.rollback(["a"], "two", false), { code: "busy" });
  await assert.rejects(vdis.rollback(["a"], "one", true), { code: "busy", message: /size/ });
  await assert.rejects(vdis.delete("a"), { code: "busy" });
  await assert.rejects(vdis.resize("a", mebibyte, true), { code: "busy" });
  await assert.rejects(vdis.flatten("a"), { code: "busy" });
  await vdis.rollback(["a"], "two", true);
  await vdis.resize("a", 3 * mebibyte, false);
  await vdis.snapshot(["a"], "three");
  detach();
  await vdis.delete("a");
  await vdis.close();
});

test("a disk that shrank and grew reads zeros where it was cut off, also after a crash", async () => {
  const size = 4 * mebibyte;
  const small = mebibyte + 512;
  for (let stopAt = 1, done = false; !done; stopAt += 1) {
    const { vdis, files } = await openMemoryVdis();
    await vdis.create("a", size);
    await vdis.volume("a").write(filled(5, size), 0);
    await vdis.volume("a").flush();
    let operations = 0;
    let left: typeof files | undefined;
    const crashed = new Promise<void>((resolve) => {
      files.before = () => {
        if (++operations !== stopAt) return;
        left = files.crashKeepingNothing();
        resolve();
      };
    });
    await Promise.race([crashed, vdis.resize("a", small, true).catch(() => crashed)]);
    done = left === undefined;
    files.before = undefined;
    const next = await openMemoryVdis({}, left ?? files.crashKeepingNothing());
    const { sizeBytes } = next.vdis.volume("a");
    assert.ok(sizeBytes === size || sizeBytes === small);
    if (sizeBytes === small) {
      assert.equal(await byteAt(next.vdis.volume("a"), mebibyte), 5);
      await next.vdis.resize("a", size, false);
      assert.equal(await byteAt(next.vdis.volume("a"), small, size - small), 0);
      assert.equal(await byteAt(next.vdis.volume("a"), 0, small), 5);
    }
    await next.vdis.close();
  }
});

test("a flatten that a crash cut off leaves no point behind", async () => {
  const { host, vdis } = await openMemoryVdis();
  await vdis.create("base", 2 ** 26);
  await vdis.volume("base").write(filled(1), 0);
  await vdis.snapshot(["base"], "s");
  await vdis.clone("base", "s", "c");
  const points = vdis.store.state.points.size;
  // The copy has its point and part of its data; the record that swaps it in never comes.
  let crashed = false;
  host.files.before = ({ operation, path }) => {
    if (operation !== "link" || !path.includes("catalog") || !crashed) return;
    return new Promise(() => {});
  };
  const flatten = vdis.flatten("c", {
    progress: () => {
      crashed = true;
    },
  });
  flatten.catch(() => {});
  for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate);
  assert.ok(crashed);
  const again = await openMemoryVdis({}, host.files.crashKeepingEverything());
  const { state } = again.vdis.store;
  assert.equal(state.points.size, points + 1, "the copy's point was there");
  assert.equal(state.deletedPoints.size, 1, "and is deleted");
  assert.equal(await byteAt(again.vdis.volume("c"), 0), 1);
});

test("no disk gets the name that a snapshot is exported by, and no snapshot that of a disk", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  await vdis.snapshot(["a"], "b");
  for (const name of ["a@b", "a@1", "a@#1"]) {
    await assert.rejects(vdis.create(name, mebibyte), { code: "exists" }, name);
    await assert.rejects(vdis.clone("a", "b", name), { code: "exists" }, name);
  }
  await vdis.create("a@c", mebibyte);
  await assert.rejects(vdis.snapshot(["a"], "c"), { code: "exists" });
  await vdis.snapshot(["a"], "d");
});
