import assert from "node:assert/strict";
import { test } from "node:test";
import { dataOf, openMemoryObjects } from "../../../test/support/memory-objects.ts";
import { byteAt, filled } from "../../../test/support/memory-vdis.ts";

const objectBytes = 4 * 2 ** 20;

test("objects are pieces of the disk, whoever reads and writes them", async () => {
  const { vdis, objects, vidOf, dataAt, owners } = await openMemoryObjects();
  await vdis.create("a", 4 * objectBytes);
  const volume = vdis.volume("a");
  const vid = await vidOf("a");
  await assert.rejects(async () => objects.write(dataOf(vid, 1), 0, filled(1)), {
    refusal: "no-object",
  });
  assert.equal(await dataAt(vid, 1), 0, "a hole");
  await objects.create(dataOf(vid, 1), { offset: 8192, chunks: filled(1) });
  assert.deepEqual(await owners(vid, 4), [0, vid, 0, 0]);
  assert.equal(await byteAt(volume, objectBytes + 8192, 4096), 1);
  assert.equal(await dataAt(vid, 1, 0, 8192), 0, "zeros where nothing was written");
  // Not on the boundaries of blocks.
  await objects.write(dataOf(vid, 1), 100, [Buffer.alloc(50, 2), Buffer.alloc(30, 2)]);
  assert.equal(await dataAt(vid, 1, 100, 80), 2);
  assert.equal(await dataAt(vid, 1, 180, 1000), 0);
  await volume.write(filled(3), 2 * objectBytes);
  assert.equal(await dataAt(vid, 2), 3);
  await objects.write(dataOf(vid, 2), 4096, filled(4));
  assert.equal(await byteAt(volume, 2 * objectBytes + 4096), 4);
  await vdis.close();
});

test("what was trimmed over another protocol reads as zeros to a client with the map of before", async () => {
  const { vdis, objects, vidOf, dataAt, owners } = await openMemoryObjects();
  await vdis.create("a", 2 * objectBytes);
  const volume = vdis.volume("a");
  const vid = await vidOf("a");
  await objects.create(dataOf(vid, 0), { offset: 0, chunks: filled(1) });
  assert.deepEqual(await owners(vid, 1), [vid]);
  await volume.trim(0, objectBytes);
  assert.equal(await dataAt(vid, 0, 0, objectBytes), 0);
  assert.equal(await objects.exists(dataOf(vid, 0)), false);
  await vdis.snapshot(["a"], "s");
  await vidOf("a");
  assert.equal(await dataAt(vid, 0), 0, "by the vid that is a snapshot's now");
  await volume.write(filled(2), objectBytes);
  await vdis.rollback(["a"], "s", true);
  assert.equal(await dataAt(vid, 0), 0, "and after a rollback to it");
  await vdis.snapshot(["a"], "later");
  const off = (await objects.lookup({ name: "a", tag: "later", snapId: 0 })).vid;
  await vdis.rollback(["a"], "s", true);
  // On another line the client's map is the snapshot's, and it says what is there.
  assert.throws(() => void objects.read(dataOf(off, 0), 0, Buffer.alloc(1)), {
    refusal: "no-object",
  });
  await vdis.close();
});

test("a resident object is there at once, without a promise", async () => {
  const { vdis, objects, vidOf } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  await vdis.volume("a").zero(0, objectBytes, { keepAllocated: true });
  assert.equal(objects.read(dataOf(await vidOf("a"), 0), 0, Buffer.alloc(4096)), undefined);
  await vdis.close();
});

test("what does not fit into an object, or into the disk, is refused", async () => {
  const { vdis, objects, vidOf } = await openMemoryObjects();
  await vdis.create("a", 2 * objectBytes);
  await vdis.volume("a").write(filled(1), 0);
  const vid = await vidOf("a");
  const behind = { offset: objectBytes - 4095, chunks: filled(1) };
  await assert.rejects(async () => objects.create(dataOf(vid, 0), behind), { refusal: "invalid" });
  await assert.rejects(async () => objects.write(dataOf(vid, 0), behind.offset, filled(1)), {
    refusal: "invalid",
  });
  await assert.rejects(
    async () => objects.read(dataOf(vid, 0), behind.offset, Buffer.alloc(4096)),
    { refusal: "invalid" },
  );
  const request = { offset: 0, chunks: filled(1) };
  for (const id of [dataOf(vid, 2), dataOf(vid, 2 ** 20), dataOf(vid + 1, 0)]) {
    await assert.rejects(async () => objects.create(id, request), { refusal: "no-object" });
  }
  await vdis.close();
});

test("the last object reaches beyond the disk; what is there reads as zeros and is not kept", async () => {
  const { vdis, objects, vidOf, dataAt } = await openMemoryObjects();
  await vdis.create("a", objectBytes + 1536);
  const vid = await vidOf("a");
  await objects.create(dataOf(vid, 1), { offset: 0, chunks: [Buffer.alloc(objectBytes, 7)] });
  assert.equal(await dataAt(vid, 1, 0, 1536), 7);
  assert.equal(await dataAt(vid, 1, 1536, objectBytes - 1536), 0);
  await objects.write(dataOf(vid, 1), 4096, filled(8));
  await vdis.resize("a", 2 * objectBytes, false);
  assert.equal(await dataAt(vid, 1, 1536, objectBytes - 1536), 0);
  assert.equal(await dataAt(vid, 1, 0, 1536), 7);
  await vdis.close();
});

test("a create that comes again never takes away what was written since", async () => {
  const { vdis, objects, vidOf, dataAt } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  const vid = await vidOf("a");
  await objects.create(dataOf(vid, 0), { offset: 0, chunks: filled(1) });
  await vdis.volume("a").write(filled(2), 8192);
  await objects.create(dataOf(vid, 0), { offset: 0, chunks: filled(1) });
  await objects.create(dataOf(vid, 0), { offset: 0, chunks: [] });
  assert.equal(await dataAt(vid, 0, 0, 4096), 1);
  assert.equal(await dataAt(vid, 0, 8192, 4096), 2);
  await vdis.close();
});

test("copy-on-write is accepted from who knows the owner, and copies nothing", async () => {
  const { vdis, objects, vidOf, owners, dataAt } = await openMemoryObjects();
  await vdis.create("a", 3 * objectBytes);
  await vdis.volume("a").write(filled(1, objectBytes), 0);
  await vdis.volume("a").write(filled(1), objectBytes);
  await vdis.snapshot(["a"], "one");
  await vdis.snapshot(["a"], "two");
  const [one, two, tip] = [await vidOf("a", "one"), await vidOf("a", "two"), await vidOf("a")];
  const request = { offset: 4096, chunks: filled(2) };
  const stale = { refusal: "stale" };
  await assert.rejects(async () => objects.create(dataOf(tip, 0), request), stale);
  const byTwo = { ...request, cow: dataOf(two, 0) };
  await assert.rejects(async () => objects.create(dataOf(tip, 0), byTwo), stale);
  const otherObject = { ...request, cow: dataOf(one, 1) };
  await assert.rejects(async () => objects.create(dataOf(tip, 0), otherObject), {
    refusal: "invalid",
  });
  const onHole = { ...request, cow: dataOf(one, 2) };
  await assert.rejects(async () => objects.create(dataOf(tip, 2), onHole), stale);
  assert.deepEqual(await owners(tip, 3), [one, one, 0], "nothing of it has happened");
  await objects.create(dataOf(tip, 0), { ...request, cow: dataOf(one, 0) });
  assert.deepEqual(await owners(tip, 3), [tip, one, 0]);
  assert.equal(await dataAt(tip, 0, 0, 4096), 1);
  assert.equal(await dataAt(tip, 0, 4096, 4096), 2);
  assert.equal(await dataAt(tip, 0, 8192, 4096), 1);
  assert.equal(await dataAt(one, 0, 4096, 4096), 1, "the snapshot is as it was");
  assert.equal(vdis.store.point(vdis.registry.find("a").tip).exclusiveBlocks, 1);
  // It comes again.
  await objects.create(dataOf(tip, 0), { ...request, cow: dataOf(one, 0) });
  await vdis.close();
});

test("a create without data makes the object the disk's own", async () => {
  const { vdis, objects, vidOf, owners, dataAt } = await openMemoryObjects();
  await vdis.create("a", 4 * objectBytes);
  // Of the second one, only a block in the middle is mapped.
  await vdis.volume("a").write(filled(5), objectBytes + 40960);
  await vdis.volume("a").zero(2 * objectBytes, objectBytes, { keepAllocated: true });
  await vdis.snapshot(["a"], "one");
  const [one, tip] = [await vidOf("a", "one"), await vidOf("a")];
  assert.deepEqual(await owners(tip, 4), [0, one, one, 0]);
  await objects.create(dataOf(tip, 0), { offset: 0, chunks: [] });
  await objects.create(dataOf(tip, 1), { offset: 0, chunks: [], cow: dataOf(one, 1) });
  await objects.create(dataOf(tip, 2), { offset: 0, chunks: [], cow: dataOf(one, 2) });
  assert.deepEqual(await owners(tip, 4), [tip, tip, tip, 0]);
  assert.equal(await dataAt(tip, 0, 0, objectBytes), 0);
  assert.equal(await dataAt(tip, 1, 40960, 4096), 5);
  assert.equal(await dataAt(tip, 2, 0, objectBytes), 0);
  await vdis.close();
});

test("an empty create takes nothing from a write that is under way", async () => {
  const { vdis, objects, vidOf, dataAt } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  const vid = await vidOf("a");
  await Promise.all([
    vdis.volume("a").write(filled(1), 4096),
    objects.create(dataOf(vid, 0), { offset: 0, chunks: [] }),
    vdis.volume("a").write(filled(2), 8192),
  ]);
  assert.equal(await dataAt(vid, 0, 4096, 4096), 1);
  assert.equal(await dataAt(vid, 0, 8192, 4096), 2);
  await vdis.close();
});

test("removing and discarding make holes; a snapshot keeps what it has", async () => {
  const { vdis, objects, vidOf, owners, dataAt } = await openMemoryObjects();
  await vdis.create("a", 2 * objectBytes + 512);
  for (const at of [0, 1]) await vdis.volume("a").write(filled(1), at * objectBytes);
  await vdis.volume("a").write([Buffer.alloc(512, 1)], 2 * objectBytes);
  await vdis.snapshot(["a"], "one");
  const [one, tip] = [await vidOf("a", "one"), await vidOf("a")];
  await objects.remove(dataOf(tip, 0));
  await objects.discard(dataOf(tip, 2));
  await objects.discard(dataOf(tip, 0));
  await assert.rejects(async () => objects.remove(dataOf(tip, 0)), { refusal: "no-object" });
  await assert.rejects(async () => objects.remove(dataOf(one, 1)), { refusal: "read-only" });
  await assert.rejects(async () => objects.discard(dataOf(one, 1)), { refusal: "read-only" });
  assert.deepEqual(await owners(tip, 3), [0, one, 0]);
  const there = [0, 1, 2, 3].map((at) => objects.exists(dataOf(tip, at)));
  assert.deepEqual(await Promise.all(there), [false, true, false, false]);
  assert.equal(await objects.exists(dataOf(12345, 0)), false);
  assert.equal(await dataAt(one, 0), 1);
  assert.equal(await dataAt(one, 2), 1);
  await vdis.close();
});

test("a snapshot makes the old vid read-only, and what was acknowledged to it is in it", async () => {
  const { vdis, objects, vidOf, dataAt } = await openMemoryObjects();
  await vdis.create("a", 16 * objectBytes);
  let vid = await vidOf("a");
  /** What each writer was last answered for, by vid. */
  const acknowledged = new Map<number, number[]>();
  let done = false;
  const write = async (writer: number) => {
    for (let value = 1; !done; value = (value % 250) + 1) {
      for (;;) {
        const at = vid;
        try {
          // As a client that learns of the owners with every reload.
          await objects.create(dataOf(at, writer), { offset: 0, chunks: filled(value) });
        } catch (error) {
          const { refusal } = error as { refusal?: string };
          if (refusal === "read-only") vid = await vidOf("a");
          else if (refusal === "stale")
            await vdis.volume("a").write(filled(value), writer * objectBytes);
          else throw error;
          continue;
        }
        const values = acknowledged.get(at) ?? new Array<number>(16).fill(0);
        acknowledged.set(at, values);
        values[writer] = value;
        break;
      }
      await new Promise(setImmediate);
    }
  };
  const writers = Array.from({ length: 16 }, (_, writer) => write(writer));
  for (let at = 0; at < 20; at++) {
    await vdis.snapshot(["a"]);
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  }
  done = true;
  await Promise.all(writers);
  assert.ok(acknowledged.size > 2, "writers followed the disk over its snapshots");
  for (const [at, values] of acknowledged) {
    for (const [writer, value] of values.entries()) {
      if (value !== 0) assert.equal(await dataAt(at, writer, 0, 4096), value);
    }
  }
  await vdis.close();
});

test("after a snapshot a client goes on with what it knows of its objects", async () => {
  const { vdis, objects, vidOf, owners, dataAt } = await openMemoryObjects();
  await vdis.create("a", 2 * objectBytes);
  const first = await vidOf("a");
  await objects.create(dataOf(first, 0), { offset: 0, chunks: filled(1) });
  await vdis.snapshot(["a"], "one");
  await assert.rejects(async () => objects.write(dataOf(first, 0), 0, filled(2)), {
    refusal: "read-only",
  });
  await assert.rejects(
    async () => objects.create(dataOf(first, 1), { offset: 0, chunks: filled(2) }),
    { refusal: "read-only" },
  );
  const second = await vidOf("a");
  await objects.create(dataOf(second, 0), {
    offset: 0,
    chunks: filled(2),
    cow: dataOf(first, 0),
  });
  await objects.create(dataOf(second, 1), { offset: 0, chunks: filled(3) });
  assert.deepEqual(await owners(second, 2), [second, second]);
  assert.equal(await dataAt(first, 0), 1);
  await objects.flush(first);
  await vdis.close();
});

test("a disk that was rolled back or deleted is stale to its clients, never read-only", async () => {
  const { vdis, objects, vidOf } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  await vdis.volume("a").write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  await vdis.volume("a").write(filled(2), 0);
  const before = await vidOf("a");
  await vdis.rollback(["a"], "one", false);
  const refused = async (vid: number) => {
    const stale = { refusal: "stale" };
    await assert.rejects(async () => objects.write(dataOf(vid, 0), 0, filled(9)), stale);
    await assert.rejects(
      async () => objects.create(dataOf(vid, 0), { offset: 0, chunks: [] }),
      stale,
    );
    await assert.rejects(async () => objects.read(dataOf(vid, 0), 0, Buffer.alloc(1)), stale);
    await assert.rejects(async () => objects.flush(vid), stale);
  };
  await refused(before);
  const after = await vidOf("a");
  await vdis.delete("a");
  await refused(after);
  await vdis.purge();
  await vdis.store.clean();
  await refused(before);
  await refused(after);
  await vdis.close();
});

test("a client whose disk was frozen and then rolled back must not go on with the new one", async () => {
  const { vdis, objects, vidOf } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  await vdis.snapshot(["a"], "one");
  await vdis.volume("a").write(filled(1), 0);
  const client = await vidOf("a");
  await vdis.snapshot(["a"], "two");
  await vdis.rollback(["a"], "one", false);
  await assert.rejects(async () => objects.write(dataOf(client, 0), 0, filled(2)), {
    refusal: "stale",
  });
  assert.equal(await objects.exists(dataOf(client, 0)), true, "it is a snapshot and can be read");
  await vdis.rollback(["a"], "two", false);
  await assert.rejects(async () => objects.write(dataOf(client, 0), 0, filled(2)), {
    refusal: "read-only",
  });
  await vdis.close();
});

test("requests that a rollback overtakes are answered by the old disk or not at all", async () => {
  const { vdis, objects, vidOf } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  await vdis.volume("a").write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  const vid = await vidOf("a");
  const moved = vdis.rollback(["a"], "one", false);
  const outcomes: string[] = [];
  for (let at = 0; at < 200; at++) {
    const request = async () => objects.write(dataOf(vid, 0), 0, filled(9));
    await request().then(
      () => outcomes.push("written"),
      ({ refusal }) => outcomes.push(refusal),
    );
    if (outcomes.at(-1) === "stale") break;
  }
  await moved;
  assert.equal(outcomes.at(-1), "stale");
  assert.equal(await byteAt(vdis.volume("a"), 0), 1, "nothing of them is in the new one");
  await vdis.close();
});

test("what a deleted snapshot owned is read through who stands on it, also after a restart", async () => {
  const { vdis, objects, vidOf, dataAt, files } = await openMemoryObjects();
  await vdis.create("a", 3 * objectBytes);
  const volume = vdis.volume("a");
  await volume.write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  await volume.write(filled(2), objectBytes);
  await vdis.snapshot(["a"], "two");
  const [one, two, tip] = [await vidOf("a", "one"), await vidOf("a", "two"), await vidOf("a")];
  const check = async (read: typeof dataAt) => {
    assert.equal(await read(one, 0), 1);
    assert.equal(await read(two, 1), 2);
  };
  await vdis.deleteSnapshot("a", "one");
  await check(dataAt);
  await vdis.store.clean();
  await check(dataAt);
  await vdis.deleteSnapshot("a", "two");
  await vdis.store.clean();
  await check(dataAt);
  // It goes on copying from owners that are gone.
  await objects.create(dataOf(tip, 0), { offset: 4096, chunks: filled(3), cow: dataOf(one, 0) });
  await objects.create(dataOf(tip, 1), { offset: 4096, chunks: filled(3), cow: dataOf(two, 1) });
  await assert.rejects(async () => objects.write(dataOf(two, 0), 0, filled(4)), {
    refusal: "read-only",
  });
  await check(dataAt);
  const again = await openMemoryObjects(files.crashKeepingEverything());
  await check(again.dataAt);
  assert.equal(await again.dataAt(tip, 1, 4096), 3);
  await again.vdis.close();
});

test("the frozen disk of a client is deleted before it learns of its new vid", async () => {
  const { vdis, objects, vidOf, dataAt } = await openMemoryObjects();
  await vdis.create("a", 2 * objectBytes);
  const client = await vidOf("a");
  await objects.create(dataOf(client, 0), { offset: 0, chunks: filled(1) });
  await vdis.snapshot(["a"], "one");
  await vdis.deleteSnapshot("a", "one");
  await vdis.store.clean();
  assert.equal(await dataAt(client, 0), 1);
  await assert.rejects(async () => objects.write(dataOf(client, 0), 0, filled(2)), {
    refusal: "read-only",
  });
  const next = await vidOf("a");
  await objects.create(dataOf(next, 0), { offset: 0, chunks: filled(2), cow: dataOf(client, 0) });
  assert.equal(await dataAt(next, 0), 2);
  await vdis.close();
});

test("what was flushed survives a crash that keeps nothing else", async () => {
  const { vdis, objects, vidOf, files } = await openMemoryObjects();
  await vdis.create("a", objectBytes);
  const vid = await vidOf("a");
  await objects.create(dataOf(vid, 0), { offset: 0, chunks: filled(1) });
  await objects.flush(vid);
  const again = await openMemoryObjects(files.crashKeepingNothing());
  assert.equal(await again.dataAt(vid, 0, 0, 4096), 1);
  assert.deepEqual(await again.owners(vid, 1), [vid]);
  await again.vdis.close();
});
