import assert from "node:assert/strict";
import { test } from "node:test";
import { dataOf, newVdi, openMemoryObjects, select } from "../../../test/support/memory-objects.ts";
import { filled } from "../../../test/support/memory-vdis.ts";

const objectBytes = 4 * 2 ** 20;

/** A disk of 300 objects with a snapshot "s" and a tip that owns every third of them. */
async function bigDisk() {
  const opened = await openMemoryObjects();
  const { vdis, vidOf } = opened;
  await vdis.create("a", 300 * objectBytes);
  const volume = vdis.volume("a");
  for (let at = 0; at < 300; at += 2) await volume.write(filled(1), at * objectBytes);
  await vdis.snapshot(["a"], "s");
  for (let at = 0; at < 300; at += 3) await volume.write(filled(3), at * objectBytes);
  const [snapshot, tip] = [await vidOf("a", "s"), await vidOf("a")];
  const before = await opened.owners(tip, 300);

  /** As `dog` and QEMU do it: spans of at most 128 entries that are not zero. */
  async function wipe(): Promise<void> {
    const now = await opened.owners(tip, 300);
    for (let at = 0; at < 300; ) {
      if (now[at] === 0) {
        at++;
        continue;
      }
      const start = at;
      for (let used = 0; at < 300 && used < 128; at++) if (now[at] !== 0) used++;
      await opened.writeOwners(tip, new Array<number>(at - start).fill(0), start);
    }
  }
  return { ...opened, snapshot, tip, before, wipe };
}

function valueAt(at: number): number {
  return at % 3 === 0 ? 3 : at % 2 === 0 ? 1 : 0;
}

async function checkContent(vdis: Awaited<ReturnType<typeof bigDisk>>["vdis"]): Promise<void> {
  const target = Buffer.alloc(512);
  for (let at = 0; at < 300; at++) {
    await vdis.volume("a").read(target, at * objectBytes);
    assert.ok(
      target.every((byte) => byte === valueAt(at)),
      `object ${at}`,
    );
  }
}

test("a disk that dog wipes and deletes comes back as it was before", async () => {
  const { vdis, objects, wipe, owners, tip, files, vidOf } = await bigDisk();
  const points = vdis.store.state.points.size;
  await wipe();
  assert.deepEqual(new Set(await owners(tip, 300)), new Set([0]));
  assert.equal(await vidOf("a"), tip, "the client goes on with its vid");
  assert.equal(vdis.store.state.points.size, points + 1, "one hidden point for all batches");
  assert.equal(vdis.registry.discardedOf("a")[0]?.why, "wiped");
  assert.equal(await objects.deleteVdi(select("a")), tip);
  const left = vdis.registry.discardedOf("a");
  assert.deepEqual(
    left.map(({ why }) => why),
    ["wiped"],
    "the empty tip is not kept",
  );
  const again = await openMemoryObjects(files.crashKeepingNothing());
  await again.vdis.undelete("a", {});
  await checkContent(again.vdis);
  assert.equal(again.vdis.registry.discardedOf("a").length, 0);
  assert.notEqual(await again.vidOf("a"), tip);
  await again.vdis.store.clean();
  await checkContent(again.vdis);
  await again.vdis.close();
});

test("dog's rollback, which wipes and deletes first, can be undone", async () => {
  const { vdis, objects, wipe, snapshot, dataAt, vidOf } = await bigDisk();
  await wipe();
  await objects.deleteVdi(select("a"));
  const { vid } = await objects.newVdi(newVdi("a", { baseVid: snapshot, sizeBytes: 512 }));
  assert.equal(await dataAt(vid, 6), 1);
  await vdis.undelete("a", {});
  await checkContent(vdis);
  await vdis.undelete("a", {});
  assert.equal(await vidOf("a"), vid);
  await vdis.close();
});

test("QEMU's deletion of a snapshot, which wipes the disk, deletes only the snapshot", async () => {
  const { vdis, objects, wipe, owners, tip, before, snapshot } = await bigDisk();
  await wipe();
  assert.equal(await objects.deleteVdi(select("a", "s")), snapshot);
  await checkContent(vdis);
  assert.deepEqual(vdis.registry.discardedOf("a"), []);
  assert.deepEqual(vdis.registry.snapshotsOf("a"), []);
  await vdis.store.clean();
  const after = await owners(tip, 300);
  const heirs = before.map((owner) => (owner === snapshot ? tip : owner));
  assert.deepEqual(after, heirs, "its client's map is right again");
  await checkContent(vdis);
  assert.equal(vdis.store.state.points.size, 1, "nothing of it is left behind");
  await vdis.close();
});

test("what is written between the wipe and the deletion of the snapshot stays", async () => {
  const { vdis, objects, wipe, tip, owners, dataAt, files } = await bigDisk();
  await wipe();
  await objects.create(dataOf(tip, 0), { offset: 4096, chunks: filled(9) });
  await vdis.volume("a").write(filled(8), 5 * objectBytes);
  await objects.deleteVdi(select("a", "s"));
  const check = async (read: typeof dataAt) => {
    assert.equal(await read(tip, 0, 4096, 4096), 9);
    assert.equal(await read(tip, 0, 0, 4096), 0, "an object that was written is not mended");
    assert.equal(await read(tip, 5), 8);
    for (const at of [2, 3, 4, 6, 298, 297]) assert.equal(await read(tip, at), valueAt(at));
  };
  await check(dataAt);
  assert.deepEqual(vdis.registry.discardedOf("a"), []);
  assert.deepEqual(
    (await owners(tip, 8)).map((owner) => owner !== 0),
    [true, false, true, true, true, true, true, false],
  );
  const again = await openMemoryObjects(files.crashKeepingEverything());
  await again.vdis.store.clean();
  await check(again.dataAt);
  await again.vdis.close();
});

test("a second wipe after the disk was used again has a hidden point of its own", async () => {
  const { vdis, objects, wipe, tip, dataAt, vidOf } = await bigDisk();
  await wipe();
  for (const at of [0, 1]) {
    await objects.create(dataOf(tip, at), { offset: 0, chunks: filled(7) });
  }
  await wipe();
  assert.equal(vdis.registry.discardedOf("a").length, 2);
  await objects.deleteVdi(select("a"));
  await vdis.undelete("a", {});
  assert.equal(await dataAt(await vidOf("a"), 1), 7, "what it was when it was deleted");
  await vdis.close();
});

test("a wipe that retention overtakes is a wipe", async () => {
  const { vdis, objects, wipe, tip, owners, vidOf } = await bigDisk();
  await wipe();
  await vdis.purge();
  await vdis.store.clean();
  await objects.deleteVdi(select("a", "s"));
  assert.deepEqual(new Set(await owners(tip, 300)), new Set([0]));
  assert.equal(await vidOf("a"), tip);
  await vdis.close();
});

test("a crash in a wipe or in its mending loses nothing", async () => {
  for (let stopAt = 1, done = false; !done; stopAt += 9) {
    const { files, wipe, objects } = await bigDisk();
    await objects.flush((await objects.lookup(select("a"))).vid);
    let operations = 0;
    let left: typeof files | undefined;
    const crashed = new Promise<void>((resolve) => {
      files.before = () => {
        if (++operations !== stopAt) return;
        left = files.crashKeepingEverything();
        resolve();
      };
    });
    const work = async () => {
      await wipe();
      await objects.deleteVdi(select("a", "s"));
    };
    await Promise.race([crashed, work()]);
    files.before = undefined;
    done = left === undefined;
    const again = await openMemoryObjects(left ?? files.crashKeepingEverything());
    if (again.vdis.registry.snapshotsOf("a").length > 0) {
      await again.objects.deleteVdi(select("a", "s"));
    }
    await checkContent(again.vdis);
    await again.vdis.close();
  }
});

test("objects smaller than a chunk are wiped in several requests, and come back", async () => {
  for (const how of ["undelete", "mended"]) {
    const { vdis, objects, writeOwners, owners, dataAt } = await openMemoryObjects();
    const size = 2 ** 20;
    const request = newVdi("a", { blockSizeShift: 20, sizeBytes: 10 * size });
    const { vid: one } = await objects.newVdi(request);
    await objects.create(dataOf(one, 0), { offset: 0, chunks: filled(1) });
    const { vid: tip } = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: one }));
    for (const at of [1, 2, 3, 4, 5, 6, 7]) {
      await objects.create(dataOf(tip, at), { offset: 0, chunks: filled(1) });
    }
    const points = vdis.store.state.points.size;
    const before = await owners(tip, 10);
    // The second request begins in the middle of a chunk of the map.
    await writeOwners(tip, [0, 0, 0], 0);
    await writeOwners(tip, [0, 0, 0, 0, 0], 3);
    assert.equal(vdis.store.state.points.size, points + 1, "one hidden point");
    if (how === "mended") {
      await objects.deleteVdi(select("a", 1));
      assert.equal(vdis.registry.working.has("a"), true);
      assert.deepEqual(before.slice(1), (await owners(tip, 10)).slice(1));
    } else {
      await objects.deleteVdi(select("a"));
      assert.equal(vdis.registry.discardedOf("a").length, 1, "the empty tip is not kept");
      await vdis.undelete("a", {});
    }
    const { vid } = await objects.lookup(select("a"));
    for (let at = 0; at < 8; at++) assert.equal(await dataAt(vid, at), 1, `${how}, ${at}`);
    await vdis.close();
  }
});
