import assert from "node:assert/strict";
import { test } from "node:test";
import { dataOf, newVdi, openMemoryObjects, select } from "../../../test/support/memory-objects.ts";
import { byteAt, filled } from "../../../test/support/memory-vdis.ts";

const objectBytes = 4 * 2 ** 20;
const count = 300;

/** A disk of 300 objects with a snapshot "s" and a tip that owns every third of them. */
async function bigDisk() {
  const opened = await openMemoryObjects();
  const { vdis, vidOf } = opened;
  await vdis.create("a", count * objectBytes);
  const volume = vdis.volume("a");
  for (let at = 0; at < count; at += 2) await volume.write(filled(1), at * objectBytes);
  await vdis.snapshot(["a"], "s");
  for (let at = 0; at < count; at += 3) await volume.write(filled(3), at * objectBytes);
  const [snapshot, tip] = [await vidOf("a", "s"), await vidOf("a")];
  const before = await opened.owners(tip, count);

  /** As `dog` and QEMU do it, from the map they read first: spans of at most 128 entries in use. */
  async function wipe(between: () => Promise<void> = async () => {}): Promise<void> {
    for (const { first, length } of spansOf(before)) {
      await opened.writeOwners(tip, new Array<number>(length).fill(0), first);
      await between();
    }
  }
  return { ...opened, snapshot, tip, before, wipe };
}

function spansOf(owners: readonly number[]): { first: number; length: number }[] {
  const spans: { first: number; length: number }[] = [];
  for (let at = 0; at < owners.length; ) {
    if (owners[at] === 0) {
      at++;
      continue;
    }
    const first = at;
    for (let used = 0; at < owners.length && used < 128; at++) if (owners[at] !== 0) used++;
    spans.push({ first, length: at - first });
  }
  return spans;
}

function valueAt(at: number): number {
  return at % 3 === 0 ? 3 : at % 2 === 0 ? 1 : 0;
}

type Vdis = Awaited<ReturnType<typeof bigDisk>>["vdis"];

async function checkContent(vdis: Vdis, except: readonly number[] = []): Promise<void> {
  for (let at = 0; at < count; at++) {
    if (except.includes(at)) continue;
    const found = await byteAt(vdis.volume("a"), at * objectBytes);
    assert.equal(found, valueAt(at), `object ${at}`);
  }
}

test("a disk that dog wipes and deletes comes back as it was before", async () => {
  const { vdis, objects, wipe, tip, files } = await bigDisk();
  await wipe();
  assert.equal(await objects.deleteVdi(select("a")), tip);
  const [left, ...others] = vdis.registry.discardedOf("a");
  assert.deepEqual([left?.why, others], ["delete", []]);
  const again = await openMemoryObjects(files.crashKeepingNothing());
  await again.vdis.undelete("a", {});
  await checkContent(again.vdis);
  assert.equal(again.vdis.registry.discardedOf("a").length, 0);
  assert.equal(await again.vidOf("a"), tip);
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
  const { vdis, objects, wipe, owners, tip, before, snapshot, dataAt } = await bigDisk();
  const records = vdis.store.catalog.last;
  await wipe(async () => {
    // A machine that runs on the disk notices nothing.
    assert.equal(await dataAt(tip, 3), 3);
    assert.equal(await byteAt(vdis.volume("a"), 4 * objectBytes), 1);
  });
  assert.equal(vdis.store.catalog.last, records);
  assert.equal(await objects.deleteVdi(select("a", "s")), snapshot);
  await checkContent(vdis);
  assert.deepEqual(vdis.registry.discardedOf("a"), []);
  assert.deepEqual(vdis.registry.snapshotsOf("a"), []);
  await vdis.store.clean();
  const heirs = before.map((owner) => (owner === snapshot ? tip : owner));
  assert.deepEqual(await owners(tip, count), heirs, "its client's map is right");
  await checkContent(vdis);
  assert.equal(vdis.store.state.points.size, 1, "nothing of it is left behind");
  await vdis.close();
});

test("what a machine writes between two requests of a wipe costs nothing of the disk", async () => {
  const { vdis, objects, wipe, tip, snapshot } = await bigDisk();
  const written = [290, 289, 288];
  await wipe(async () => {
    const at = written.shift() ?? assert.fail();
    const cow = valueAt(at) === 1 ? { cow: dataOf(snapshot, at) } : {};
    await objects.create(dataOf(tip, at), { offset: 8192, chunks: filled(9), ...cow });
  });
  assert.deepEqual(written, [288], "two requests");
  await objects.deleteVdi(select("a", "s"));
  await checkContent(vdis);
  for (const at of [290, 289]) {
    assert.equal(await byteAt(vdis.volume("a"), at * objectBytes + 8192, 4096), 9);
  }
  await vdis.close();
});

for (const what of ["snapshot", "disk"] as const) {
  test(`writes that come in during a wipe are not lost when the ${what} is deleted`, async () => {
    const { vdis, objects, wipe, tip } = await bigDisk();
    const own = Array.from({ length: 40 }, (_, index) => 6 * index);
    const writes: Promise<void>[] = [];
    const send = async (some: readonly number[], by: "vid" | "name") => {
      for (const at of some) {
        // It comes in while the wipe is anywhere.
        await new Promise((resolve) => setImmediate(resolve));
        const device = vdis.volume("a");
        writes.push(
          Promise.resolve(
            by === "vid"
              ? objects.write(dataOf(tip, at), 0, filled(7))
              : device.write(filled(7), at * objectBytes),
          ),
        );
      }
    };
    await Promise.all([wipe(), send(own.slice(0, 20), "vid"), send(own.slice(20), "name")]);
    await Promise.all(writes);
    await wipe();
    writes.push(Promise.resolve(objects.write(dataOf(tip, 297), 0, filled(7))));
    if (what === "snapshot") await objects.deleteVdi(select("a", "s"));
    else {
      await Promise.all([wipe(), ...writes]);
      await objects.deleteVdi(select("a"));
      await vdis.undelete("a", {});
    }
    await Promise.all(writes);
    for (const at of [...own, 297]) {
      assert.equal(await byteAt(vdis.volume("a"), at * objectBytes), 7, `object ${at}`);
    }
    await checkContent(vdis, [...own, 297]);
    await vdis.close();
  });
}

test("what is written, zeroed or trimmed after a wipe is so, and nothing else", async () => {
  const { vdis, objects, wipe, tip, dataAt, files } = await bigDisk();
  const volume = vdis.volume("a");
  for (const at of [0, 3, 6, 9]) await volume.write(filled(3, 16384), at * objectBytes);
  await wipe();
  await objects.write(dataOf(tip, 0), 4096, filled(9));
  await volume.write(filled(8, 512), 3 * objectBytes + 1024);
  await volume.zero(6 * objectBytes + 8192, 4096);
  await volume.trim(9 * objectBytes, 8192);
  await objects.deleteVdi(select("a", "s"));
  const check = async (read: typeof dataAt) => {
    const parts = async (index: number, at: readonly number[]) =>
      await Promise.all(at.map((offset) => read(tip, index, offset, 512)));
    assert.deepEqual(await parts(0, [0, 4096, 8192, 12288]), [3, 9, 3, 3]);
    assert.deepEqual(await parts(3, [512, 1024, 1536, 8192]), [3, 8, 3, 3]);
    assert.deepEqual(await parts(6, [4096, 8192, 12288]), [3, 0, 3]);
    assert.deepEqual(await parts(9, [0, 4096, 8192]), [0, 0, 3]);
  };
  await check(dataAt);
  const again = await openMemoryObjects(files.crashKeepingEverything());
  await again.vdis.store.clean();
  await check(again.dataAt);
  await again.vdis.close();
});

test("a wipe that nothing follows is nothing", async () => {
  const { vdis, wipe, tip, owners, before, vidOf, writeOwners } = await bigDisk();
  await wipe();
  await vdis.purge();
  await vdis.store.clean();
  await checkContent(vdis);
  assert.deepEqual(await owners(tip, count), before);
  assert.equal(await vidOf("a"), tip);
  // Nor does it make an old map a good one.
  await assert.rejects(writeOwners(tip, [0, tip], 0), { refusal: "stale" });
  await vdis.close();
});

test("the last entry alone is a part of the wipe that it ends, and else a trim", async () => {
  const { vdis, objects, writeOwners, owners } = await openMemoryObjects();
  await vdis.create("a", 257 * objectBytes);
  for (let at = 0; at < 257; at++) await vdis.volume("a").write(filled(1), at * objectBytes);
  await vdis.snapshot(["a"], "s");
  const { vid: tip } = await objects.lookup(select("a"));
  const before = await owners(tip, 257);
  const spans = spansOf(before);
  assert.deepEqual(spans.at(-1), { first: 256, length: 1 });
  for (const { first, length } of spans) {
    await writeOwners(tip, new Array<number>(length).fill(0), first);
  }
  assert.deepEqual(await owners(tip, 257), before);
  await writeOwners(tip, [0], 256);
  assert.equal((await owners(tip, 257)).at(-1), 0, "nothing was expected any more");
  await vdis.volume("a").write(filled(2), 256 * objectBytes);
  await writeOwners(tip, [0, 0], 0);
  await writeOwners(tip, [0], 256);
  assert.equal((await owners(tip, 257)).at(-1), 0, "others were left before it");
  await writeOwners(tip, new Array<number>(256).fill(0), 0);
  await writeOwners(tip, [0], 7);
  assert.deepEqual((await owners(tip, 9)).slice(6), [before[6], 0, before[8]], "a guest's trim");
  await vdis.close();
});

test("a crash in a wipe or in the deletion that follows loses nothing", async () => {
  for (const what of ["snapshot", "disk"]) {
    for (let stopAt = 1, done = false; !done; stopAt += 2) {
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
        await objects.deleteVdi(select("a", what === "disk" ? "" : "s"));
      };
      await Promise.race([crashed, work()]);
      files.before = undefined;
      done = left === undefined;
      const again = await openMemoryObjects(left ?? files.crashKeepingEverything());
      if (!again.vdis.registry.working.has("a")) await again.vdis.undelete("a", {});
      await checkContent(again.vdis);
      await again.vdis.close();
    }
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
    const before = await owners(tip, 10);
    // The second request begins in the middle of a chunk of the map.
    await writeOwners(tip, [0, 0, 0], 0);
    await writeOwners(tip, [0, 0, 0, 0, 0], 3);
    if (how === "mended") {
      await objects.deleteVdi(select("a", 1));
      assert.equal(vdis.registry.working.has("a"), true);
      assert.deepEqual(before.slice(1), (await owners(tip, 10)).slice(1));
    } else {
      await objects.deleteVdi(select("a"));
      assert.equal(vdis.registry.discardedOf("a").length, 1);
      await vdis.undelete("a", {});
    }
    const { vid } = await objects.lookup(select("a"));
    for (let at = 0; at < 8; at++) assert.equal(await dataAt(vid, at), 1, `${how}, ${at}`);
    await vdis.close();
  }
});
