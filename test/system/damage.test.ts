import assert from "node:assert/strict";
import { open, readdir, readFile, rename, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { CallOutput } from "../../src/control/calls.ts";
import { runHere, Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, tryTool } from "../support/tools.ts";

const mebibyte = 2 ** 20;
const block = 4096;
const diskBytes = 16 * mebibyte;

type Check = CallOutput<"store.check">;

/** Bytes that are found nowhere but in this block of the test's disk. */
function contentOf(number: number): Buffer {
  return Buffer.alloc(block, `block ${number} of the disk; `);
}

/** Fills 64 blocks, each with content of its own. */
async function fill(server: ServerProcess, name: string): Promise<void> {
  const client = await server.connect(name);
  for (let number = 0; number < 64; number++) {
    await client.write([contentOf(number)], number * block);
  }
  await client.flush();
  await client.close();
}

/** Segments of a store, keys as the store has them, in the order of their numbers. */
async function segmentsOf(store: string): Promise<string[]> {
  const names = await readdir(join(store, "logs"), { recursive: true });
  const keys = names.filter((name) => name.includes("/")).map((name) => `logs/${name}`);
  return keys.sort();
}

/** Flips one bit of a block where the store keeps it; returns the segment's key. */
async function flipBit(store: string, number: number): Promise<string> {
  for (const key of await segmentsOf(store)) {
    const at = (await readFile(join(store, key))).indexOf(contentOf(number));
    if (at === -1) continue;
    const handle = await open(join(store, key), "r+");
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, at + 1234);
    await handle.write(Uint8Array.of((byte[0] as number) ^ 0x10), 0, 1, at + 1234);
    await handle.close();
    return key;
  }
  assert.fail(`block ${number} is nowhere`);
}

/** Reads block by block; gives those that fail, after checking the others' content. */
async function unreadable(server: ServerProcess, name: string): Promise<number[]> {
  const client = await server.connect(name);
  const failed: number[] = [];
  const target = Buffer.alloc(block);
  for (let number = 0; number < 64; number++) {
    try {
      await client.read(target, number * block);
      assert.equal(target.compare(contentOf(number)), 0, `block ${number} is not what was written`);
    } catch (error) {
      assert.equal((error as { code?: unknown }).code, "io");
      failed.push(number);
    }
  }
  await client.close();
  return failed;
}

test("a flipped bit is an I/O error for its block only, and the check names segment and disk", async () => {
  await using scratch = await Scratch.create();
  const store = scratch.path;
  await using server = await ServerProcess.start(store);
  await server.ok("vdi", "create", "disk", String(diskBytes));
  await fill(server, "disk");
  await server.ok("vdi", "snapshot", "disk", "-s", "here");
  await server.ok("vdi", "create", "other", String(diskBytes));
  const clean = await server.cli("store", "check");
  assert.equal(clean.exitCode, 0, clean.stdout);

  const key = await flipBit(store, 17);
  assert.deepEqual(await unreadable(server, "disk"), [17]);
  assert.deepEqual(await unreadable(server, "disk@here"), [17]);

  const check = await server.cli("store", "check");
  assert.equal(check.exitCode, 1);
  assert.match(check.stdout, new RegExp(`damage: ${key}: block 17 of disk`));
  const { findings } = JSON.parse((await server.cli("store", "check", "--json")).stdout) as Check;
  assert.deepEqual(
    findings.map(({ severity, object }) => [severity, object]),
    [["damage", key]],
  );
  const ofDisk = await server.cli("vdi", "check", "disk");
  assert.equal(ofDisk.exitCode, 1);
  assert.match(ofDisk.stdout, new RegExp(`disk at ${17 * block}`));
  assert.equal((await server.cli("vdi", "check", "other")).exitCode, 0);

  // Written anew it is whole again; the snapshot is not.
  const client = await server.connect("disk");
  await client.write([contentOf(17)], 17 * block);
  await client.close();
  assert.deepEqual(await unreadable(server, "disk"), []);
  assert.deepEqual(await unreadable(server, "disk@here"), [17]);
});

test("a client of another make gets EIO for the damaged block", {
  skip: requireTool("qemu-io", "qemu-utils"),
}, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.path);
  await server.ok("vdi", "create", "disk", String(diskBytes));
  await fill(server, "disk");
  await flipBit(scratch.path, 3);
  const read = (offset: number) =>
    tryTool("qemu-io", ["-f", "raw", "-c", `read ${offset} 4k`, server.uri("disk")]);
  const failed = await read(3 * block);
  assert.match(failed.stdout + failed.stderr, /Input\/output error/);
  const good = await read(4 * block);
  assert.match(good.stdout, /read 4096\/4096/);
});

test("a missing segment: what was in it cannot be read, all else can, and the check names it", async () => {
  await using scratch = await Scratch.create();
  const store = scratch.path;
  {
    await using server = await ServerProcess.start(store);
    await server.ok("vdi", "create", "lost", String(diskBytes));
    await fill(server, "lost");
    await server.ok("vdi", "create", "kept", String(diskBytes));
    assert.equal((await server.stop()).exitCode, 0);
  }
  const [key, ...others] = await segmentsOf(store);
  assert.ok(key);
  assert.deepEqual(others, []);
  await rename(join(store, key), scratch.file("stolen"));
  await using server = await ServerProcess.start(store);
  await fill(server, "kept");
  assert.deepEqual(await unreadable(server, "kept"), []);
  assert.equal((await unreadable(server, "lost")).length, 64);
  const check = await server.cli("store", "check");
  assert.equal(check.exitCode, 1);
  assert.match(check.stdout, new RegExp(`damage: ${key}: .*lost`));
  assert.doesNotMatch(check.stdout, /kept/);
  // One finding for all that is side by side.
  const ofDisk = await server.cli("vdi", "check", "lost", "--json");
  const { findings } = JSON.parse(ofDisk.stdout) as Check;
  assert.deepEqual(
    findings.map(({ object }) => object),
    [`lost at 0, ${64 * block} bytes`],
  );
  // The disk is no worse than it was: what is written is there.
  await fill(server, "lost");
  assert.deepEqual(await unreadable(server, "lost"), []);
});

test("a missing map is damage of the disks that need it, and no other", async () => {
  await using scratch = await Scratch.create();
  const store = scratch.path;
  {
    await using server = await ServerProcess.start(store);
    await server.ok("vdi", "create", "disk", String(diskBytes));
    await fill(server, "disk");
    assert.equal((await server.stop()).exitCode, 0);
  }
  const [map, ...others] = await readdir(join(store, "maps"));
  assert.ok(map);
  assert.deepEqual(others, []);
  await rename(join(store, "maps", map), scratch.file("stolen"));
  await using server = await ServerProcess.start(store);
  await server.ok("vdi", "create", "new", String(diskBytes));
  await fill(server, "new");
  assert.deepEqual(await unreadable(server, "new"), []);
  assert.equal((await unreadable(server, "disk")).length, 64);
  const check = await server.cli("store", "check");
  assert.equal(check.exitCode, 1);
  assert.match(check.stdout, new RegExp(`damage: disk: .*maps/${map}`));
});

test("a torn last batch is cut off: the store opens with all that was flushed", async () => {
  await using scratch = await Scratch.create();
  const torn = [1, 512, 5000];
  for (const [round, cutBytes] of torn.entries()) {
    const store = scratch.file(`store${round}`);
    {
      await using server = await ServerProcess.start(store);
      await server.ok("vdi", "create", "disk", String(diskBytes));
      await fill(server, "disk");
      const client = await server.connect("disk");
      await client.write([Buffer.alloc(2 * block, 0xee)], 60 * block);
      await server.stop("SIGKILL");
      await client.close().catch(() => {});
    }
    const last = join(store, (await segmentsOf(store)).at(-1) ?? "");
    await truncate(last, (await stat(last)).size - cutBytes);
    await using server = await ServerProcess.start(store);
    // The write was not flushed: it is gone as a whole, and what was there before is back.
    assert.deepEqual(await unreadable(server, "disk"), [], `${cutBytes} bytes cut`);
    await fill(server, "disk");
    const check = await server.cli("store", "check");
    assert.equal(check.exitCode, 0, check.stdout);
    assert.equal((await server.stop()).exitCode, 0);
  }
});

test("a log that lacks flushed data opens with --repair only, as far as it is whole", async () => {
  await using scratch = await Scratch.create();
  const store = scratch.path;
  {
    await using server = await ServerProcess.start(store);
    await server.ok("vdi", "create", "disk", String(diskBytes));
    await fill(server, "disk");
    // Begins a segment, whose batches say that what comes before them is synced.
    await server.ok("vdi", "snapshot", "disk", "-s", "here");
    await fill(server, "disk");
    await server.stop("SIGKILL");
  }
  const [first, second] = await segmentsOf(store);
  assert.ok(first && second);
  await truncate(join(store, first), 40 * block);
  for (const argv of [
    ["vdi", "list"],
    ["store", "check"],
    ["serve", "--nbd", "off"],
  ]) {
    const refused = await runHere(store, ...argv);
    assert.equal(refused.exitCode, 2, argv.join(" "));
    assert.match(refused.stderr, new RegExp(`${first}.* before data that had been synced`));
    assert.match(refused.stderr, /kelpie store check --repair/);
  }
  // Damage is for a person to look at first.
  assert.deepEqual(await segmentsOf(store), [first, second]);
  const repaired = await runHere(store, "store", "check", "--repair");
  assert.equal(repaired.exitCode, 0, repaired.stderr);
  await using server = await ServerProcess.start(store);
  const target = Buffer.alloc(block);
  const client = await server.connect("disk");
  await client.read(target, 8 * block);
  assert.equal(target.compare(contentOf(8)), 0);
  await client.close();
});
