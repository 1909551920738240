import assert from "node:assert/strict";
import { test } from "node:test";
import { dataOf, newVdi, openMemoryObjects, select } from "../../../test/support/memory-objects.ts";
import { filled } from "../../../test/support/memory-vdis.ts";
import { VdiExports } from "../vdi-exports.ts";
import type { ObjectClient } from "./objects.ts";

function client(host: string, port: number): ObjectClient {
  return { peer: `${host}:${port}`, host, port };
}

async function openLocking() {
  const opened = await openMemoryObjects(undefined, { locking: true });
  const { objects } = opened;

  /** QEMU: a connection to work with, and one for the lock, which it closes. */
  async function qemu(host: string, port: number, name = "a") {
    const [work, ask] = [client(host, port), client(host, port + 1)];
    objects.connected(work);
    objects.connected(ask);
    try {
      const { vid } = await objects.lock(select(name), { client: ask, shared: false });
      return { work, vid };
    } catch (error) {
      objects.disconnected(work);
      throw error;
    } finally {
      objects.disconnected(ask);
    }
  }
  return { ...opened, qemu };
}

test("without locking a lock is a lookup", async () => {
  const { vdis, objects } = await openMemoryObjects();
  const { vid } = await objects.newVdi(newVdi("a"));
  for (const port of [1, 2]) {
    const options = { client: client("x", port), shared: false };
    assert.equal((await objects.lock(select("a"), options)).vid, vid);
  }
  assert.equal(objects.locking, false);
  assert.equal((await objects.states())[0]?.lock, "unlocked");
  objects.release(client("x", 1), vid);
  await vdis.close();
});

test("a locked disk is one client's, until its connection goes", async () => {
  const { vdis, objects, qemu } = await openLocking();
  await objects.newVdi(newVdi("a"));
  const first = await qemu("10.0.0.1", 100);
  await assert.rejects(qemu("10.0.0.2", 200), { refusal: "locked", message: /10\.0\.0\.1:101/ });
  await assert.rejects(qemu("10.0.0.1", 300), { refusal: "locked" }, "also by the same host");
  const [state] = await objects.states();
  assert.equal(state?.lock, "locked");
  assert.deepEqual(state?.owners, [{ host: "10.0.0.1", port: 101 }]);
  objects.disconnected(first.work);
  const second = await qemu("10.0.0.2", 400);
  objects.release(client("10.0.0.9", 1), second.vid);
  await qemu("10.0.0.1", 500);
  await vdis.close();
});

test("of several clients of one host, each keeps its own lock", async () => {
  const { vdis, objects, qemu } = await openLocking();
  await objects.newVdi(newVdi("a"));
  await objects.newVdi(newVdi("b"));
  const one = await qemu("10.0.0.1", 100, "a");
  objects.used(one.work, one.vid);
  const two = await qemu("10.0.0.1", 200, "b");
  objects.used(two.work, two.vid);
  objects.disconnected(two.work);
  await qemu("10.0.0.1", 300, "b");
  await assert.rejects(qemu("10.0.0.1", 400, "a"), { refusal: "locked" });
  objects.disconnected(one.work);
  await qemu("10.0.0.2", 500, "a");
  await vdis.close();
});

test("what two disks stand on tells nothing about whose connection reads it", async () => {
  const { vdis, objects, qemu } = await openLocking();
  const { vid } = await objects.newVdi(newVdi("base"));
  await objects.create(dataOf(vid, 0), { offset: 0, chunks: filled(1) });
  await objects.newVdi(newVdi("base", { baseVid: vid, snapshot: true }));
  for (const name of ["a", "b"]) await objects.newVdi(newVdi(name, { baseVid: vid }));
  const one = await qemu("10.0.0.1", 100, "a");
  const two = await qemu("10.0.0.1", 200, "b");
  for (const { work } of [two, one]) objects.used(work, vid);
  objects.disconnected(one.work);
  await assert.rejects(qemu("10.0.0.1", 300, "b"), { refusal: "locked" });
  await vdis.close();
});

test("a disk is in use by who reads what it stands on, until that is known to have another", async () => {
  const { vdis, objects } = await openMemoryObjects();
  const { vid } = await objects.newVdi(newVdi("a"));
  await objects.create(dataOf(vid, 0), { offset: 0, chunks: filled(1) });
  await vdis.snapshot(["a"], "s");
  const { vid: tip } = await objects.lookup(select("a"));
  const clone = await objects.newVdi(newVdi("b", { baseVid: vid }));
  const [one, two] = [client("10.0.0.1", 100), client("10.0.0.1", 200)];
  const users = () => ["a", "b"].map((name) => vdis.attachments.count(name));
  for (const who of [one, two]) {
    objects.connected(who);
    objects.used(who, vid);
  }
  assert.deepEqual(users(), [2, 2]);
  await assert.rejects(vdis.rollback(["a"], "s", true), { code: "busy" });
  objects.used(one, tip);
  objects.used(two, clone.vid);
  objects.used(two, vid);
  assert.deepEqual(users(), [1, 1]);
  // A gateway has several disks, and says so.
  await objects.lock(select("a"), { client: two, shared: false });
  assert.deepEqual(users(), [2, 1]);
  objects.release(two, tip);
  assert.deepEqual(users(), [1, 1]);
  for (const who of [one, two]) objects.disconnected(who);
  assert.deepEqual(users(), [0, 0]);
  await vdis.close();
});

test("a lock stays with the disk over snapshots, and is released by any of its vids", async () => {
  const { vdis, objects, qemu } = await openLocking();
  const { vid } = await objects.newVdi(newVdi("a"));
  await qemu("10.0.0.1", 100);
  const next = await objects.newVdi(newVdi("a", { snapshot: true, baseVid: vid }));
  await assert.rejects(qemu("10.0.0.2", 200), { refusal: "locked" });
  // A snapshot is locked by itself.
  const options = { client: client("10.0.0.2", 300), shared: false };
  assert.equal((await objects.lock(select("a", 1), options)).vid, vid);
  const locks = (await objects.states()).map(({ lock }) => lock);
  assert.deepEqual(locks, ["locked", "locked"]);
  objects.release(options.client, vid);
  objects.release(client("10.0.0.1", 102), next.vid);
  await qemu("10.0.0.2", 400);
  await vdis.close();
});

test("whoever closes a snapshot takes nothing from the disk's lock, unless it was the disk", async () => {
  const { vdis, objects, qemu } = await openLocking();
  const { vid: first } = await objects.newVdi(newVdi("a"));
  const second = (await objects.newVdi(newVdi("a", { snapshot: true, baseVid: first }))).vid;
  await qemu("10.0.0.1", 100);
  objects.release(client("10.0.0.1", 300), first);
  await assert.rejects(qemu("10.0.0.2", 200), { refusal: "locked" }, "it was a snapshot all along");
  await objects.newVdi(newVdi("a", { snapshot: true, baseVid: second }));
  objects.release(client("10.0.0.2", 300), second);
  await assert.rejects(qemu("10.0.0.2", 200), { refusal: "locked" }, "it was another host's disk");
  objects.release(client("10.0.0.1", 300), second);
  await qemu("10.0.0.2", 200);
  await vdis.close();
});

test("who leaves a shared lock leaves it to the others", async () => {
  const { vdis, objects } = await openLocking();
  const { vid } = await objects.newVdi(newVdi("a"));
  const [one, two, three] = [1, 2, 3].map((n) => client(`10.0.0.${n}`, n));
  assert.ok(one && two && three);
  const lock = (who: ObjectClient, shared: boolean) =>
    objects.lock(select("a"), { client: who, shared });
  const owners = async () => (await objects.states())[0]?.owners.map(({ port }) => port);
  const again = client("10.0.0.1", 4);
  for (const who of [one, two, again]) await lock(who, true);
  objects.release(three, vid);
  assert.deepEqual(await owners(), [1, 2, 4], "a stranger has no part in it");
  objects.release(client("10.0.0.2", 20), vid);
  assert.deepEqual(await owners(), [1, 4], "on a new connection of its host");
  objects.release(client("10.0.0.1", 10), vid);
  assert.deepEqual(await owners(), [1, 4], "which of two it is cannot be told");
  objects.release(again, vid);
  assert.deepEqual(await owners(), [1]);
  objects.release(one, vid);
  await lock(three, false);
  await vdis.close();
});

test("shared locks are shared with each other only", async () => {
  const { vdis, objects } = await openLocking();
  const { vid } = await objects.newVdi(newVdi("a"));
  const lock = (port: number, shared: boolean) =>
    objects.lock(select("a"), { client: client(`10.0.0.${port}`, port), shared });
  await lock(1, true);
  await lock(2, true);
  await assert.rejects(lock(3, false), { refusal: "locked" });
  const [state] = await objects.states();
  assert.equal(state?.lock, "shared");
  assert.equal(state?.owners.length, 2);
  for (const port of [1, 2]) objects.release(client(`10.0.0.${port}`, port), vid);
  await lock(3, false);
  await assert.rejects(lock(4, true), { refusal: "locked" });
  await vdis.close();
});

test("locks hold for NBD too, in both directions", async () => {
  const { vdis, objects, qemu } = await openLocking();
  await objects.newVdi(newVdi("a"));
  const exports = new VdiExports({ vdis });
  const nbd = { protocol: "nbd" as const, peer: "10.0.0.9:1" };
  const open = await exports.open("a", nbd);
  await assert.rejects(qemu("10.0.0.1", 100), { refusal: "locked" });
  await open.close();
  const { work } = await qemu("10.0.0.1", 200);
  await assert.rejects(exports.open("a", nbd), { code: "busy", message: /10\.0\.0\.1/ });
  objects.disconnected(work);
  await (await exports.open("a", nbd)).close();
  await vdis.close();
});

test("clients that do I/O are listed at the disk, and it is not rolled back under them", async () => {
  const { vdis, objects } = await openMemoryObjects();
  const { vid } = await objects.newVdi(newVdi("a"));
  await objects.create(dataOf(vid, 0), { offset: 0, chunks: filled(1) });
  await vdis.snapshot(["a"], "s");
  const { vid: tip } = await objects.lookup(select("a"));
  const one = client("10.0.0.1", 100);
  objects.connected(one);
  objects.used(one, tip);
  objects.used(one, tip);
  assert.deepEqual(vdis.attachments.of("a"), [
    { protocol: "sheepdog", peer: "10.0.0.1:100", export: "a", readOnly: false },
  ]);
  for (const live of [false, true]) {
    await assert.rejects(vdis.rollback(["a"], "s", live), { code: "busy" });
  }
  await assert.rejects(vdis.delete("a"), { code: "busy" });
  objects.disconnected(one);
  assert.equal(vdis.attachments.count("a"), 0);
  await vdis.rollback(["a"], "s", false);
  await vdis.close();
});
