import assert from "node:assert/strict";
import { test } from "node:test";
import { dataOf, newVdi, openMemoryObjects, select } from "../../../test/support/memory-objects.ts";
import { byteAt, filled } from "../../../test/support/memory-vdis.ts";

const mebibyte = 2 ** 20;
const objectBytes = 4 * mebibyte;

function snapshots(vdis: Awaited<ReturnType<typeof openMemoryObjects>>["vdis"], name: string) {
  return vdis.registry.snapshotsOf(name).map(({ snapId, tag }) => [snapId, tag]);
}

test("a disk is created with what was asked for, or with what the store has", async () => {
  const { vdis, objects, header, files } = await openMemoryObjects();
  const records = vdis.store.catalog.last;
  const plain = await objects.newVdi(newVdi("test", { sizeBytes: 1_000_000 }));
  assert.deepEqual(plain, { vid: 0x7c2b25, copies: 1, copyPolicy: 0, blockSizeShift: 22 });
  assert.equal(vdis.store.catalog.last, records + 1, "its vid is in the record that makes it");
  assert.equal((await header(plain.vid)).sizeBytes, 1_000_448, "whole sectors");
  const asked = await objects.newVdi(
    newVdi("Alice", { copies: 1, copyPolicy: 0x22, blockSizeShift: 25 }),
  );
  assert.deepEqual(asked, { vid: 0x15d167, copies: 6, copyPolicy: 0x22, blockSizeShift: 25 });
  const hyper = await objects.newVdi(
    newVdi("base", { storePolicy: 1, sizeBytes: 8 * 2 ** 40, copies: 3 }),
  );
  assert.equal((await header(hyper.vid)).storePolicy, 1);
  await vdis.store.checkpoint();
  const again = await openMemoryObjects(files.crashKeepingNothing());
  assert.deepEqual(await again.objects.lookup(select("Alice")), asked);
  assert.equal((await again.header(hyper.vid)).copies, 3);
  await again.vdis.close();
});

test("what cannot be created is refused, and nothing changes", async () => {
  const { vdis, objects } = await openMemoryObjects();
  const { vid } = await objects.newVdi(newVdi("a"));
  await vdis.create("nbd", mebibyte);
  const before = vdis.registry.save();
  const refused = async (request: Parameters<typeof newVdi>, refusal: string) => {
    await assert.rejects(objects.newVdi(newVdi(...request)), { refusal }, request.join());
  };
  await refused(["a"], "vdi-exists");
  await refused(["nbd"], "vdi-exists");
  await refused(["b", { sizeBytes: 0 }], "invalid");
  await refused(["b", { sizeBytes: 2 ** 42 + 512 }], "invalid");
  await refused(["b", { blockSizeShift: 19 }], "invalid");
  await refused(["b", { blockSizeShift: 23, storePolicy: 1 }], "invalid");
  await refused(["", {}], "invalid");
  await refused(["b", { baseVid: 77 }], "no-base-vdi");
  await refused(["b", { baseVid: vid }], "no-base-vdi");
  await refused(["b", { snapshot: true, baseVid: vid }], "no-vdi");
  assert.deepEqual(vdis.registry.save(), before);
  await vdis.close();
});

test("a clone stands on a snapshot, is never smaller, and has its objects", async () => {
  const { vdis, objects, vidOf, header, owners, dataAt } = await openMemoryObjects();
  const { vid: base } = await objects.newVdi(newVdi("a", { blockSizeShift: 23, copies: 2 }));
  await objects.create(dataOf(base, 0), { offset: 0, chunks: filled(1) });
  await objects.newVdi(newVdi("a", { snapshot: true, baseVid: base }));
  const clone = await objects.newVdi(newVdi("b", { baseVid: base, sizeBytes: 512 }));
  assert.deepEqual([clone.blockSizeShift, clone.copies], [23, 2], "objects as the base has them");
  const { sizeBytes, snapId, parentVid } = await header(clone.vid);
  assert.deepEqual(
    { sizeBytes, snapId, parentVid },
    {
      sizeBytes: 4 * mebibyte,
      snapId: 1,
      parentVid: base,
    },
  );
  assert.deepEqual(await owners(clone.vid, 1), [base]);
  assert.equal(await dataAt(clone.vid, 0), 1);
  const larger = await objects.newVdi(newVdi("c", { baseVid: base, sizeBytes: 64 * mebibyte }));
  assert.equal((await header(larger.vid)).sizeBytes, 64 * mebibyte);
  assert.equal(await vidOf("b"), clone.vid);
  await vdis.close();
});

test("a snapshot freezes the vid; the new one is in the same record", async () => {
  const { vdis, objects, vidOf, header, owners, dataAt } = await openMemoryObjects();
  const { vid: first } = await objects.newVdi(newVdi("a"));
  await objects.create(dataOf(first, 0), { offset: 0, chunks: filled(1) });
  const records = vdis.store.catalog.last;
  const request = newVdi("a", { snapshot: true, baseVid: first, sizeBytes: 512 });
  const { vid: second } = await objects.newVdi(request);
  assert.equal(vdis.store.catalog.last, records + 1);
  assert.equal(second, first + 1);
  assert.deepEqual([await vidOf("a"), await vidOf("a", 1)], [second, first]);
  assert.ok((await header(first)).snapshotMs > 0);
  const { snapshotMs, parentVid, sizeBytes, snapId } = await header(second);
  assert.deepEqual([snapshotMs, parentVid, snapId], [0, first, 2]);
  assert.equal(sizeBytes, 4 * mebibyte, "a disk never shrinks by it");
  assert.deepEqual(await owners(second, 1), [first]);
  await assert.rejects(async () => objects.write(dataOf(first, 0), 0, filled(2)), {
    refusal: "read-only",
  });
  await objects.create(dataOf(second, 0), { offset: 0, chunks: filled(2), cow: dataOf(first, 0) });
  assert.equal(await dataAt(first, 0), 1);
  // A larger size is taken.
  await objects.newVdi(
    newVdi("a", { snapshot: true, baseVid: second, sizeBytes: 2 * objectBytes }),
  );
  assert.equal((await header(await vidOf("a"))).sizeBytes, 2 * objectBytes);
  await vdis.close();
});

test("snapshots of both protocols are one history", async () => {
  const { vdis, objects, vidOf } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  await vdis.snapshot(["a"], "nbd");
  const { vid } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: await vidOf("a") }));
  await vdis.snapshot(["a"], "again");
  assert.deepEqual(snapshots(vdis, "a"), [
    [1, "nbd"],
    [2, ""],
    [3, "again"],
  ]);
  assert.equal(await vidOf("a", "again"), vid);
  await vdis.close();
});

/** A disk "a" with two snapshots, whose working VDI was deleted. */
async function deletedTip() {
  const opened = await openMemoryObjects();
  const { objects, vidOf } = opened;
  const { vid: one } = await objects.newVdi(newVdi("a"));
  await objects.create(dataOf(one, 0), { offset: 0, chunks: filled(1) });
  const { vid: two } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
  await objects.create(dataOf(two, 0), { offset: 0, chunks: filled(2), cow: dataOf(one, 0) });
  const { vid: tip } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: two }));
  await objects.create(dataOf(tip, 0), { offset: 0, chunks: filled(3), cow: dataOf(two, 0) });
  assert.equal(await objects.deleteVdi(select("a")), tip);
  await assert.rejects(vidOf("a"), { refusal: "no-vdi" });
  await assert.rejects(objects.deleteVdi(select("a")), { refusal: "no-vdi" }, "as QEMU expects");
  return { ...opened, one, two, tip };
}

test("a working VDI that was deleted can be brought back, also after a crash", async () => {
  const { files, tip } = await deletedTip();
  const crashed = await openMemoryObjects(files.crashKeepingNothing());
  await crashed.vdis.undelete("a", {});
  assert.equal(await crashed.vidOf("a"), tip);
  assert.equal(await crashed.dataAt(tip, 0), 3);
  await crashed.vdis.close();
});

test("between DEL_VDI and NEW_VDI the disk is kept, also where nothing that is discarded is", async () => {
  const keepDiscarded = { ageMs: 0, share: 0 };
  const { vdis, objects, host } = await openMemoryObjects(undefined, { keepDiscarded });
  const { vid } = await objects.newVdi(newVdi("a"));
  await objects.create(dataOf(vid, 0), { offset: 0, chunks: filled(1) });
  await objects.deleteVdi(select("a"));
  await host.time.advance(50_000);
  assert.equal(vdis.registry.discardedOf("a").length, 1);
  await host.time.advance(20_000);
  assert.equal(vdis.registry.discardedOf("a").length, 0);
  await vdis.close();
});

test("DEL_VDI and NEW_VDI are a rollback: no extra snapshot, and it can be undone", async () => {
  const { vdis, objects, one, tip, vidOf, dataAt, header } = await deletedTip();
  const rolled = await objects.newVdi(newVdi("a", { baseVid: one }));
  assert.equal(await dataAt(rolled.vid, 0), 1);
  assert.equal((await header(rolled.vid)).parentVid, one);
  assert.equal((await header(rolled.vid)).snapId, 3);
  assert.equal(vdis.registry.snapshotsOf("a").length, 2, "no snapshot that nobody asked for");
  assert.equal((await header(tip)).name, "");
  await assert.rejects(async () => objects.write(dataOf(tip, 0), 0, filled(9)), {
    refusal: "stale",
  });
  assert.equal(vdis.registry.discardedOf("a").length, 1);
  // It can be undone, as often as one likes.
  await vdis.undelete("a", {});
  assert.equal(await dataAt(await vidOf("a"), 0), 3);
  await vdis.undelete("a", {});
  assert.equal(await vidOf("a"), rolled.vid);
  await vdis.close();
});

test("a rebase keeps the disk as a snapshot and goes on from another one", async () => {
  const { vdis, objects, vidOf, dataAt, header } = await openMemoryObjects();
  const { vid: one } = await objects.newVdi(newVdi("a"));
  await objects.create(dataOf(one, 0), { offset: 0, chunks: filled(1) });
  const { vid: tip } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
  await objects.create(dataOf(tip, 0), { offset: 0, chunks: filled(2), cow: dataOf(one, 0) });
  const records = vdis.store.catalog.last;
  const { vid: next } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
  assert.equal(vdis.store.catalog.last, records + 1);
  assert.deepEqual(snapshots(vdis, "a"), [
    [1, ""],
    [2, ""],
  ]);
  assert.equal(await vidOf("a", 2), tip);
  assert.equal(await vidOf("a"), next);
  const { parentVid, snapId } = await header(next);
  assert.deepEqual([parentVid, snapId], [one, 3]);
  assert.equal(await dataAt(next, 0), 1);
  assert.equal(await dataAt(tip, 0), 2);
  await objects.create(dataOf(next, 0), { offset: 0, chunks: filled(3), cow: dataOf(one, 0) });
  assert.equal(await byteAt(vdis.volume("a"), 0), 3);
  assert.equal(await dataAt(tip, 0), 2);
  await vdis.close();
});

test("a disk that NBD clients use is neither deleted nor rebased", async () => {
  const { vdis, objects } = await openMemoryObjects();
  const { vid: one } = await objects.newVdi(newVdi("a"));
  await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
  const client = { peer: "x", export: "a", readOnly: false };
  const detach = vdis.attachments.add("a", { ...client, protocol: "nbd" });
  vdis.attachments.add("a", { ...client, protocol: "sheepdog" });
  const rebase = newVdi("a", { snapshot: true, baseVid: one });
  await assert.rejects(objects.deleteVdi(select("a")), { refusal: "locked" });
  await assert.rejects(objects.newVdi(rebase), { refusal: "locked" });
  detach();
  await objects.newVdi(rebase);
  await objects.deleteVdi(select("a"));
  await vdis.close();
});

test("deleting a snapshot deletes that one, by tag or id", async () => {
  const { vdis, objects, dataAt } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  await vdis.volume("a").write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  await vdis.snapshot(["a"], "two");
  const { vid: tip } = await objects.lookup(select("a"));
  await objects.deleteVdi(select("a", "one"));
  assert.deepEqual(snapshots(vdis, "a"), [[2, "two"]]);
  await objects.deleteVdi(select("a", 2));
  assert.deepEqual(snapshots(vdis, "a"), []);
  await assert.rejects(objects.deleteVdi(select("a", 2)), { refusal: "no-tag" });
  assert.equal(await dataAt(tip, 0), 1);
  await vdis.close();
});

test("a crash after any step of a snapshot or rollback leaves the disk before it or after it", async () => {
  for (let stopAt = 1, done = false; !done; stopAt++) {
    const { objects, files, vdis } = await openMemoryObjects();
    const { vid: one } = await objects.newVdi(newVdi("a"));
    await objects.create(dataOf(one, 0), { offset: 0, chunks: filled(1) });
    const { vid: tip } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
    await objects.create(dataOf(tip, 0), { offset: 0, chunks: filled(2), cow: dataOf(one, 0) });
    await objects.flush(tip);
    let operations = 0;
    let left: typeof files | undefined;
    const crashed = new Promise<void>((resolve) => {
      files.before = () => {
        if (++operations !== stopAt) return;
        left = files.crashKeepingNothing();
        resolve();
      };
    });
    const work = async () => {
      await objects.newVdi(newVdi("a", { snapshot: true, baseVid: tip }));
      await objects.deleteVdi(select("a"));
      await objects.newVdi(newVdi("a", { baseVid: one }));
    };
    await Promise.race([crashed, work()]);
    files.before = undefined;
    done = left === undefined;
    const again = await openMemoryObjects(left ?? files.crashKeepingNothing());
    if (!again.vdis.registry.working.has("a")) await again.vdis.undelete("a", {});
    const vid = await again.vidOf("a");
    const { parentVid } = await again.header(vid);
    assert.equal(await again.dataAt(vid, 0), parentVid === one && vid !== tip ? 1 : 2);
    assert.equal(await again.dataAt(one, 0), 1);
    const ids = [...again.vdis.registry.objects.vids.values()].map(({ vid: each }) => each);
    assert.equal(new Set(ids).size, ids.length);
    await again.vdis.close();
    if (done) await vdis.close();
  }
});

test("a disk with objects does not get more of them than there can be, whoever asks", async () => {
  const { vdis, objects } = await openMemoryObjects();
  await objects.newVdi(newVdi("a", { blockSizeShift: 20 }));
  await vdis.create("b", mebibyte);
  await assert.rejects(vdis.resize("a", 2 ** 40 + 4096, false), {
    code: "invalid",
    message: /can have 1099511627776 bytes/,
  });
  await vdis.resize("a", 2 ** 40, false);
  await vdis.resize("b", 2 ** 43, false);
  await vdis.close();
});

test("a clone has the copies that were asked for, and the objects of its base", async () => {
  const { vdis, objects } = await openMemoryObjects();
  const one = await objects.newVdi(newVdi("a", { copies: 2, blockSizeShift: 23 }));
  await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one.vid }));
  const clone = (name: string, more: object) =>
    objects.newVdi(newVdi(name, { baseVid: one.vid, ...more }));
  const { copies, copyPolicy, blockSizeShift } = await clone("b", { copies: 3 });
  assert.deepEqual([copies, copyPolicy, blockSizeShift], [3, 0, 23]);
  const coded = await clone("c", { copies: 1, copyPolicy: 0x21 });
  assert.deepEqual([coded.copies, coded.copyPolicy], [5, 0x21]);
  assert.equal((await clone("d", {})).copies, 2);
  await vdis.close();
});

test("formatting deletes every disk, keeps its vids, and says what new disks have", async () => {
  const { vdis, objects, vidOf, files } = await openMemoryObjects();
  const { vid } = await objects.newVdi(newVdi("a"));
  await objects.newVdi(newVdi("a", { snapshot: true, baseVid: vid }));
  await vdis.create("b", mebibyte);
  const settings = { copies: 3, copyPolicy: 0, blockSizeShift: 24, locking: true };
  assert.equal(await objects.format({ ...settings, onlyIfEmpty: true }), false);
  assert.equal(vdis.registry.names().length, 2);
  const nbd = { protocol: "nbd" as const, peer: "x", readOnly: false, export: "b" };
  const detach = vdis.attachments.add("b", nbd);
  // All or nothing: "a" comes before it.
  await assert.rejects(objects.format({ ...settings, onlyIfEmpty: false }), /"b"/);
  assert.deepEqual([vdis.registry.names(), objects.defaults.copies], [["a", "b"], 1]);
  assert.equal(vdis.registry.snapshotsOf("a").length, 1);
  detach();
  assert.equal(await objects.format({ ...settings, onlyIfEmpty: false }), true);
  assert.deepEqual(vdis.registry.names(), []);
  assert.deepEqual(objects.defaults, { copies: 3, copyPolicy: 0, blockSizeShift: 24 });
  const again = await openMemoryObjects(files.crashKeepingNothing());
  assert.deepEqual(await again.objects.newVdi(newVdi("a")), {
    vid: vid + 2,
    copies: 3,
    copyPolicy: 0,
    blockSizeShift: 24,
  });
  await again.vdis.undelete("b", {});
  await again.vidOf("b");
  await again.vdis.close();
  await vidOf("a").catch(() => {});
  await vdis.close();
});

test("objects smaller and larger than a chunk of the map have the right owners", async () => {
  for (const blockSizeShift of [20, 21, 23, 25]) {
    const { vdis, objects, owners, vidOf, dataAt } = await openMemoryObjects();
    const size = 2 ** blockSizeShift;
    const { vid: one } = await objects.newVdi(
      newVdi("a", { blockSizeShift, sizeBytes: 9 * size + 512 }),
    );
    for (const at of [0, 5, 9]) {
      await objects.create(dataOf(one, at), { offset: 0, chunks: [Buffer.alloc(512, 1)] });
    }
    await objects.create(dataOf(one, 6), { offset: size - 4096, chunks: filled(1) });
    const { vid: tip } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
    const before = [one, 0, 0, 0, 0, one, one, 0, 0, one];
    assert.deepEqual(await owners(one, 10), before);
    assert.deepEqual(await owners(tip, 10), before);
    assert.deepEqual(await owners(tip, 3, 5), [one, one, 0]);
    const cow = dataOf(one, 6);
    await objects.create(dataOf(tip, 6), { offset: 0, chunks: filled(2), cow });
    await objects.create(dataOf(tip, 2), { offset: size / 2, chunks: filled(2) });
    await objects.discard(dataOf(tip, 9));
    const after = await owners(tip, 10);
    assert.deepEqual([after[2], after[6], after[9], after[8]], [tip, tip, 0, 0], `${size}`);
    // Neighbours in one chunk are not the disk's own by that.
    assert.deepEqual([after[0], after[5]], [one, one]);
    assert.equal(await dataAt(tip, 6, size - 4096, 4096), 1);
    assert.equal(await dataAt(tip, 5), 1);
    if (blockSizeShift > 22) {
      // What is left of it is the snapshot's, and yet it is its own now: its first chunk differs.
      await vdis.volume("a").trim(6 * size, 4096);
      assert.equal((await owners(tip, 1, 6))[0], tip);
    }
    assert.equal(await vidOf("a"), tip);
    await vdis.close();
  }
});
