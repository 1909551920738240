import assert from "node:assert/strict";
import { test } from "node:test";
import { result } from "../../src/sheepdog/results.ts";
import { opcode } from "../../src/sheepdog/wire-opcodes.ts";
import { settle } from "../support/raw-nbd.ts";
import { sameBytes } from "./same-bytes.ts";
import { serveStore } from "./served-store.ts";

/*
 * What `dog` does, played as the facts page tells it (section 13), against a store: the program itself
 * is not in any distribution that the tests run on.
 */

const mib = 2 ** 20;
const object = 4 * mib;
const filled = (length: number, value: number) => Buffer.alloc(length, value);
const failsWith = (code: number) => ({ result: code });

test("a VDI is created, written, read, listed and deleted", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  const vid = await dog.create("test", 16 * mib, 2);
  await assert.rejects(dog.create("test", mib), failsWith(result.vdiExists));
  await dog.write("test", object - 100, filled(200, 7));
  assert.deepEqual(await dog.objectMap("test"), [
    [0, vid],
    [1, vid],
  ]);
  sameBytes(
    await dog.read("test", object - 101, 202),
    Buffer.concat([filled(1, 0), filled(200, 7), filled(1, 0)]),
  );
  const [listed, ...others] = await dog.list();
  assert.deepEqual(others, []);
  assert.deepEqual([listed?.ownObjects, listed?.sharedObjects], [2, 0]);
  const { header } = listed ?? assert.fail();
  assert.deepEqual([header.name, header.vid, header.copies, header.tag], ["test", vid, 2, ""]);
  await dog.delete("test");
  assert.deepEqual(await dog.list(), []);
  await assert.rejects(dog.read("test", 0, 1), failsWith(result.noVdi));
  assert.notEqual(await dog.create("test", mib), vid, "a vid is not used again");
});

test("a VDI with all its objects allocated reads as zeros", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  const vid = await dog.createAllocated("test", 3 * object);
  assert.deepEqual(
    await dog.objectMap("test"),
    [0, 1, 2].map((index) => [index, vid]),
  );
  sameBytes(await dog.read("test", object - 10, 20), filled(20, 0));
  assert.equal(await dog.missing("test"), 0);
});

test("a VDI larger than its objects says so after it is resized", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  await dog.create("test", object);
  await dog.resize("test", 3 * object);
  assert.equal((await dog.list())[0]?.header.sizeBytes, 3 * object);
  await dog.write("test", 2 * object, filled(512, 4));
  sameBytes(await dog.read("test", 2 * object, 512), filled(512, 4));
});

test("snapshots, clones and the tree of them", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  const first = await dog.create("test", 16 * mib);
  await dog.write("test", 0, filled(object + 1, 1));
  const { workingVid, snapshotVid } = await dog.snapshot("test", "s1");
  assert.equal(snapshotVid, first);
  await assert.rejects(dog.snapshot("test", "s1"), failsWith(result.success));
  await dog.write("test", 0, filled(10, 2));
  assert.deepEqual(await dog.objectMap("test"), [
    [0, workingVid],
    [1, first],
  ]);
  sameBytes(await dog.read("test", 0, 20, { tag: "s1" }), filled(20, 1));
  sameBytes(await dog.read("test", 0, 20, { snapId: 1 }), filled(20, 1));
  sameBytes(await dog.read("test", 0, 20), Buffer.concat([filled(10, 2), filled(10, 1)]));
  const clone = await dog.clone("test", { tag: "s1" }, "copy");
  sameBytes(await dog.read("copy", 0, 20), filled(20, 1));
  await dog.write("copy", object, filled(20, 3));
  assert.deepEqual(await dog.objectMap("copy"), [
    [0, first],
    [1, clone],
  ]);
  sameBytes(await dog.read("test", object, 1), filled(1, 1));
  assert.equal(await dog.tree("test"), "test(s1(you are here))");
  assert.equal(await dog.tree("copy"), "copy(you are here)");
  const shown = (await dog.list()).map(({ header, ownObjects, sharedObjects }) => {
    const { name, tag, snapId, parentVid } = header;
    return [name, tag, snapId, parentVid, ownObjects, sharedObjects];
  });
  assert.deepEqual(
    new Set(shown.map((row) => row.join(" "))),
    new Set(["test s1 1 0 2 0", `test  2 ${first} 1 1`, `copy  1 ${first} 1 1`]),
  );
});

test("a rollback discards what came after the snapshot, and the snapshots stay", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  await dog.create("test", 16 * mib);
  for (const [index, tag] of ["s1", "s2"].entries()) {
    await dog.write("test", 0, filled(100, index + 1));
    await dog.snapshot("test", tag);
  }
  await dog.write("test", object, filled(100, 3));
  await dog.rollback("test", { tag: "s1" });
  sameBytes(await dog.read("test", 0, 100), filled(100, 1));
  assert.deepEqual(await dog.objectMap("test").then((map) => map.length), 1);
  assert.equal(await dog.tree("test"), "test(s1(s2 you are here))");
  dog.close();
  await settle();
  await store.vdis.undelete("test", {});
  const later = await store.dog();
  sameBytes(await later.read("test", object, 100), filled(100, 3), "what dog had wiped");
});

test("a snapshot in the middle is deleted, and what stands on it is not", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  await dog.create("test", 16 * mib);
  for (const [index, tag] of ["s1", "s2", "s3"].entries()) {
    await dog.write("test", index * object, filled(100, index + 1));
    await dog.snapshot("test", tag);
  }
  await dog.delete("test", { tag: "s2" });
  await assert.rejects(dog.read("test", 0, 1, { tag: "s2" }), failsWith(result.noTag));
  for (const index of [0, 1, 2]) {
    sameBytes(await dog.read("test", index * object, 100), filled(100, index + 1));
  }
  sameBytes(await dog.read("test", object, 100, { tag: "s3" }), filled(100, 2));
  const names = (await dog.list()).map(({ header }) => header.tag).sort();
  assert.deepEqual(names, ["", "s1", "s3"]);
});

test("a backup between two snapshots is what changed, and is restored", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  await dog.create("test", 16 * mib);
  await dog.write("test", 0, filled(100, 1));
  await dog.snapshot("test", "s1");
  await dog.write("test", object, filled(100, 2));
  await dog.snapshot("test", "s2");
  const changed = await dog.backup("test", { tag: "s1" }, { tag: "s2" });
  assert.deepEqual([...changed.keys()], [1]);
  await dog.write("test", 0, filled(100, 9));
  await dog.restore("test", { tag: "s1" }, changed);
  const restored = (await dog.list()).find(({ header }) => {
    return header.snapshotMs !== 0 && header.tag === "";
  });
  const selector = { snapId: restored?.header.snapId ?? 0 };
  sameBytes(await dog.read("test", 0, 100, selector), filled(100, 1));
  sameBytes(await dog.read("test", object, 100, selector), filled(100, 2));
});

test("attributes are set, exclusively too, got, and deleted; snapshots do not change them", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  await dog.create("test", mib);
  await dog.setAttribute("test", "key", "value");
  assert.equal(await dog.getAttribute("test", "key"), "value");
  const again = dog.setAttribute("test", "key", "other", { exclusive: true });
  await assert.rejects(again, failsWith(result.vdiExists));
  await dog.setAttribute("test", "key", "third");
  await dog.snapshot("test", "s1");
  assert.equal(await dog.getAttribute("test", "key"), "third");
  await dog.deleteAttribute("test", "key");
  await assert.rejects(dog.getAttribute("test", "key"), failsWith(result.noObject));
  await dog.setAttribute("test", "key", "new", { exclusive: true });
  assert.equal(await dog.getAttribute("test", "key"), "new");
  await assert.rejects(dog.setAttribute("other", "key", ""), failsWith(result.noVdi));
});

test("nobody has locks unless the store has them on", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  await dog.create("test", mib);
  const qemu = await store.openDisk("test");
  assert.deepEqual(await dog.lockList(), []);
  assert.ok(await store.openDisk("test"), "by two at once");
  await qemu.close();
});

test("with locks on, one client has a VDI until it goes, or until the lock is broken", async () => {
  await using store = await serveStore();
  const dog = await store.dog();
  const client = await store.connect();
  const format = { clusterFlags: 0x8, copies: 1 };
  const made = await client.cluster(opcode.makeFs, format, { payload: Buffer.from("plain\0") });
  assert.equal(made.result, result.success);
  const vid = await dog.create("test", mib);
  const qemu = await store.openDisk("test");
  await assert.rejects(store.openDisk("test"), /locked/);
  const [locked, ...others] = await dog.lockList();
  assert.deepEqual([locked?.vid, locked?.lockState, others], [vid, 2, []]);
  assert.ok((await dog.read("test", 0, 10)).length, "reading asks for no lock");
  await dog.unlock(vid);
  assert.deepEqual(await dog.lockList(), []);
  const second = await store.openDisk("test");
  await second.close();
  await qemu.close();
  assert.deepEqual(await dog.lockList(), []);
});
