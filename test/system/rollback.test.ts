import assert from "node:assert/strict";
import { test } from "node:test";
import type { DiscardedEntry, VdiEntry } from "../../src/control/calls.ts";
import { QemuIoSession, qemuIo } from "../support/qemu-io.ts";
import { runKelpie, Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, tryTool } from "../support/tools.ts";
import { treeShape } from "../support/tree-shape.ts";

const noQemuIo = requireTool("qemu-io", "qemu-utils");

/** A disk of 64 MiB with two snapshots: "one" has 0x11 in its first MiB, "two" 0x22, now it is 0x33. */
async function twoSnapshots(server: ServerProcess): Promise<void> {
  await server.ok("vdi", "create", "disk", "64M");
  const disk = server.uri("disk");
  await qemuIo(disk, ["write -P 0x11 0 1M", "write -P 0xaa 40M 1M"]);
  await server.ok("vdi", "snapshot", "disk", "-s", "one");
  await qemuIo(disk, ["write -P 0x22 0 1M", "write -P 0xbb 512 1k", "discard 40M 1M"]);
  await server.ok("vdi", "snapshot", "disk", "-s", "two");
  await qemuIo(disk, ["write -P 0x33 0 1M", "write -P 0x44 20M 1M"]);
}

const readsOne = ["read -P 0x11 0 1M", "read -P 0 20M 1M", "read -P 0xaa 40M 1M"];
const readsTwo = [
  "read -P 0x22 0 512",
  "read -P 0xbb 512 1k",
  "read -P 0x22 1536 1022k",
  "read -P 0 20M 1M",
  "read -P 0 40M 1M",
];
const readsThree = ["read -P 0x33 0 1M", "read -P 0x44 20M 1M", "read -P 0 40M 1M"];

test("rollback to the first of two snapshots, then to the second, leaves both and makes no third", {
  skip: noQemuIo,
}, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.path);
  await twoSnapshots(server);
  const treeBefore = treeShape(await server.json("vdi", "tree", "disk"));
  assert.equal(treeBefore, "one(two(disk))");

  // As people do it: a process of its own.
  const { status, stderr } = await runKelpie(server.store, "vdi", "rollback", "disk", "-s", "one");
  assert.equal(status, 0, stderr);
  await qemuIo(server.uri("disk"), readsOne);
  await qemuIo(server.uri("disk@one"), readsOne, ["-r"]);
  await qemuIo(server.uri("disk@two"), readsTwo, ["-r"]);
  assert.equal(treeShape(await server.json("vdi", "tree", "disk")), "one(two disk)");
  const drawn = await server.ok("vdi", "tree", "disk");
  assert.match(drawn, /one <-- two/);
  assert.match(drawn, /disk \(you are here\)/);

  await server.ok("vdi", "rollback", "disk", "-s", "two");
  await qemuIo(server.uri("disk"), readsTwo);
  await qemuIo(server.uri("disk@one"), readsOne, ["-r"]);
  await qemuIo(server.uri("disk@#2"), readsTwo, ["-r"]);
  assert.equal(treeShape(await server.json("vdi", "tree", "disk")), "one(two(disk))");
  const snapshots = ((await server.json("vdi", "list", "disk")) as VdiEntry[])
    .filter(({ kind }) => kind === "snapshot")
    .map(({ tag, snapId }) => [tag, snapId]);
  assert.deepEqual(snapshots, [
    ["one", 1],
    ["two", 2],
  ]);
  // What is written now belongs to the disk alone.
  await qemuIo(server.uri("disk"), ["write -P 0x77 0 1M"]);
  await qemuIo(server.uri("disk@two"), readsTwo, ["-r"]);
  await qemuIo(server.uri("disk@one"), readsOne, ["-r"]);
});

test("after a restart the rolled back disk and its snapshots read as before", {
  skip: noQemuIo,
}, async () => {
  await using scratch = await Scratch.create();
  {
    await using server = await ServerProcess.start(scratch.path);
    await twoSnapshots(server);
    await server.ok("vdi", "rollback", "disk", "-s", "one");
    assert.equal((await server.stop()).exitCode, 0);
  }
  await using server = await ServerProcess.start(scratch.path);
  await qemuIo(server.uri("disk"), readsOne);
  await qemuIo(server.uri("disk@two"), readsTwo, ["-r"]);
  assert.equal(treeShape(await server.json("vdi", "tree", "disk")), "one(two disk)");
  await server.ok("vdi", "undelete", "disk");
  await qemuIo(server.uri("disk"), readsThree);
});

test("a snapshot cannot be written", { skip: noQemuIo }, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.path);
  await twoSnapshots(server);
  for (const name of ["disk@one", "disk@#2"]) {
    const args = ["-f", "raw", "-c", "write -P 9 0 4k", server.uri(name)];
    const { status, stderr } = await tryTool("qemu-io", args);
    assert.notEqual(status, 0);
    assert.match(stderr, /permission denied|read.only/i);
    const client = await server.connect(name);
    assert.equal(client.readOnly, true);
    await assert.rejects(async () => await client.write([Buffer.alloc(4096, 9)], 0));
    await client.close();
  }
  await qemuIo(server.uri("disk@one"), readsOne, ["-r"]);
});

test("rollback of an attached disk is refused, and with --live the client reads the snapshot", {
  skip: noQemuIo,
}, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.path);
  await twoSnapshots(server);
  await using guest = await QemuIoSession.open(server.uri("disk"));
  for (const read of readsThree) await guest.run(read);

  const refused = await server.cli("vdi", "rollback", "disk", "-s", "one");
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /"?disk"?.*(attached|in use|open)/);
  assert.match(refused.stderr, /--live/);
  for (const read of readsThree) await guest.run(read);

  await server.ok("vdi", "rollback", "disk", "-s", "one", "--live");
  for (const read of readsOne) await guest.run(read);
  await guest.run("write -P 0x55 2M 1M");
  await guest.run("flush");
  await guest.run("read -P 0x55 2M 1M");
  await server.ok("vdi", "rollback", "disk", "-s", "two", "--live");
  for (const read of [...readsTwo, "read -P 0 2M 1M"]) await guest.run(read);
});

test("a live rollback under load leaves each write wholly before or after it", async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.path);
  const blocks = 256;
  await server.ok("vdi", "create", "disk", "4M");
  const client = await server.connect("disk");
  await client.write([Buffer.alloc(blocks * 4096, 1)], 0);
  await server.ok("vdi", "snapshot", "disk", "-s", "start");
  // Each block is written once, sixteen at a time, while the disk goes back in the middle.
  const acknowledged = new Set<number>();
  const acknowledgedAfter = new Set<number>();
  let acknowledgedBefore = new Set<number>();
  let hasRolledBack = false;
  let next = 0;
  const writer = async (): Promise<void> => {
    for (let block = next++; block < blocks; block = next++) {
      const isSentAfter = hasRolledBack;
      await client.write([Buffer.alloc(4096, 2)], block * 4096);
      acknowledged.add(block);
      if (isSentAfter) acknowledgedAfter.add(block);
      if (block === blocks / 4) {
        acknowledgedBefore = new Set(acknowledged);
        const input = { names: ["disk"], snapshot: "start", live: true };
        await server.control.call("vdi.rollback", input);
        hasRolledBack = true;
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  await Promise.all(Array.from({ length: 16 }, writer));
  assert.ok(hasRolledBack && acknowledgedAfter.size > 0);
  const content = Buffer.alloc(blocks * 4096);
  await client.read(content, 0);
  for (let block = 0; block < blocks; block++) {
    const bytes = content.subarray(block * 4096, (block + 1) * 4096);
    const value = bytes[0] as number;
    assert.ok(
      bytes.every((byte) => byte === value),
      `block ${block} is torn`,
    );
    assert.ok(value === 1 || value === 2);
    if (acknowledgedAfter.has(block)) assert.equal(value, 2, `block ${block} is lost`);
    // Acknowledged before the rollback was even asked for.
    if (acknowledgedBefore.has(block)) assert.equal(value, 1, `block ${block} came through`);
  }
  assert.ok(acknowledgedBefore.size > 0);
  await client.close();
});

test("undelete undoes a rollback and a delete, and changes places each time", {
  skip: noQemuIo,
}, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.path);
  await twoSnapshots(server);
  await server.ok("vdi", "rollback", "disk", "-s", "one");
  const discarded = (await server.json("vdi", "list", "--discarded")) as DiscardedEntry[];
  assert.deepEqual(
    discarded.map(({ name, why }) => [name, why]),
    [["disk", "rollback"]],
  );
  await server.ok("vdi", "undelete", "disk");
  await qemuIo(server.uri("disk"), readsThree);
  await server.ok("vdi", "undelete", "disk");
  await qemuIo(server.uri("disk"), readsOne);

  await server.ok("vdi", "delete", "disk");
  const gone = await server.cli("vdi", "info", "disk");
  assert.equal(gone.exitCode, 5);
  await qemuIo(server.uri("disk@two"), readsTwo, ["-r"]);
  await server.ok("vdi", "undelete", "disk");
  await qemuIo(server.uri("disk"), readsOne);
  await server.ok("vdi", "undelete", "disk", "--as", "before");
  await qemuIo(server.uri("before"), readsThree);
  await qemuIo(server.uri("disk"), readsOne);
});
