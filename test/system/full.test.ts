import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { NbdClient } from "../../src/nbd/client.ts";
import { qemuIo } from "../support/qemu-io.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, tryTool } from "../support/tools.ts";

const mebibyte = 2 ** 20;
const fileSystemBytes = 128 * mebibyte;
const pieceBytes = mebibyte;

/** A file system of 128 MiB in memory, with a store on it. */
class SmallDisk implements AsyncDisposable {
  readonly #scratch: Scratch;
  readonly store: string;

  /** Undefined where this process may not mount. */
  static async create(): Promise<SmallDisk | undefined> {
    const scratch = await Scratch.create();
    const options = ["-t", "tmpfs", "-o", `size=${fileSystemBytes}`];
    const { status } = await tryTool("mount", [...options, "kelpie-test", scratch.path]);
    if (status === 0) return new SmallDisk(scratch);
    await scratch[Symbol.asyncDispose]();
    return undefined;
  }

  private constructor(scratch: Scratch) {
    this.#scratch = scratch;
    this.store = scratch.file("store");
  }

  file(name: string): string {
    return this.#scratch.file(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { status, stderr } = await tryTool("umount", [this.#scratch.path]);
    assert.equal(status, 0, stderr);
    await this.#scratch[Symbol.asyncDispose]();
  }
}

const probe = await SmallDisk.create();
await probe?.[Symbol.asyncDispose]();
const skip = probe === undefined ? "mounting a small tmpfs takes root" : false;

/** Writes pieces from the first on until there is no space; says how many had room. */
async function writeUntilFull(client: NbdClient, first = 0): Promise<number> {
  for (let piece = first; piece < client.sizeBytes / pieceBytes; piece++) {
    try {
      await client.write([Buffer.alloc(pieceBytes, 1 + (piece % 255))], piece * pieceBytes);
    } catch (error) {
      assert.equal((error as { code?: unknown }).code, "no-space", String(error));
      return piece;
    }
  }
  assert.fail("the disk should have filled up");
}

async function assertReads(client: NbdClient, pieces: number): Promise<void> {
  const bytes = Buffer.alloc(pieceBytes);
  for (let piece = 0; piece < pieces; piece++) {
    await client.read(bytes, piece * pieceBytes);
    assert.ok(bytes.every((byte) => byte === 1 + (piece % 255)));
  }
}

/** Writing works again, after a while that a guest can wait. */
async function assertWritable(client: NbdClient, pieces: number): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  for (let piece = 0; piece < pieces; ) {
    try {
      const bytes = Buffer.alloc(pieceBytes, 1 + (piece % 255));
      await client.write([bytes], piece * pieceBytes);
      piece++;
    } catch (error) {
      assert.equal((error as { code?: unknown }).code, "no-space");
      assert.ok(performance.now() < deadlineMs, `no space for piece ${piece} after 10 s`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  await client.flush();
}

test("a full store refuses writes, reads on, and takes writes again when a disk is deleted", {
  skip,
}, async () => {
  await using disk = await SmallDisk.create();
  assert.ok(disk);
  await using server = await ServerProcess.start(disk.store);
  await server.ok("vdi", "create", "first", "1G");
  await server.ok("vdi", "create", "second", "1G");
  const first = await server.connect("first");
  for (let piece = 0; piece < 40; piece++) {
    await first.write([Buffer.alloc(pieceBytes, 1 + (piece % 255))], piece * pieceBytes);
  }
  await first.close();
  const second = await server.connect("second");
  const pieces = await writeUntilFull(second);
  assert.ok(pieces > 30, `${pieces} MiB had room`);
  await second.flush();
  await assertReads(second, pieces);
  const info = await server.control.call("store.info", {});
  assert.ok(info.freeBytes > 0, "the reserve is untouched");

  // What changes only the catalog still works: a way out must be open.
  await server.ok("vdi", "snapshot", "second", "-s", "full");
  await server.ok("vdi", "delete", "first");
  await assertWritable(second, 20);
  await assertReads(second, pieces);
  const check = await server.cli("store", "check");
  assert.equal(check.exitCode, 0, check.stdout);
  await second.close();
  assert.equal((await server.stop()).exitCode, 0);
});

test("deleting a snapshot makes room too", { skip }, async () => {
  await using disk = await SmallDisk.create();
  assert.ok(disk);
  await using server = await ServerProcess.start(disk.store);
  await server.ok("vdi", "create", "disk", "40M");
  const client = await server.connect("disk");
  for (let piece = 0; piece < 40; piece++) {
    await client.write([Buffer.alloc(pieceBytes, 0xaa)], piece * pieceBytes);
  }
  await server.ok("vdi", "snapshot", "disk", "-s", "old");
  for (let piece = 0; piece < 40; piece++) {
    await client.write([Buffer.alloc(pieceBytes, 0xbb)], piece * pieceBytes);
  }
  await server.ok("vdi", "snapshot", "disk", "-s", "new");
  const pieces = await writeUntilFull(client);
  assert.ok(pieces < 40);
  await server.ok("vdi", "delete", "disk", "-s", "old");
  await assertWritable(client, 40);
  await assertReads(client, 40);
  await client.close();
  const snapshot = await server.connect("disk@new");
  const bytes = Buffer.alloc(40 * mebibyte);
  await snapshot.read(bytes, 0);
  assert.ok(bytes.every((byte) => byte === 0xbb));
  await snapshot.close();
});

test("room that somebody else makes is found, without a restart", { skip }, async () => {
  await using disk = await SmallDisk.create();
  assert.ok(disk);
  const ballast = disk.file("ballast");
  await writeFile(ballast, Buffer.alloc(70 * mebibyte));
  await using server = await ServerProcess.start(disk.store);
  await server.ok("vdi", "create", "disk", "1G");
  const client = await server.connect("disk");
  const pieces = await writeUntilFull(client);
  assert.ok(pieces < 50);
  await rm(ballast);
  await assertWritable(client, pieces + 30);
  await client.close();
});

test("a full store opens, also after SIGKILL, and can be emptied", { skip }, async () => {
  await using disk = await SmallDisk.create();
  assert.ok(disk);
  let pieces = 0;
  {
    await using server = await ServerProcess.start(disk.store);
    await server.ok("vdi", "create", "disk", "1G");
    const client = await server.connect("disk");
    pieces = await writeUntilFull(client);
    await client.flush();
    await server.stop("SIGKILL");
    await client.close().catch(() => {});
  }
  await using server = await ServerProcess.start(disk.store);
  const client = await server.connect("disk");
  await assertReads(client, pieces);
  // It may be that recovery has found a little more room.
  assert.ok((await writeUntilFull(client, pieces)) < pieces + 10);
  await client.close();
  await server.ok("vdi", "delete", "disk");
  await server.ok("vdi", "create", "next", "1G");
  const next = await server.connect("next");
  await assertWritable(next, Math.floor(pieces / 2));
  await next.close();
});

test("a guest that discards what it does not need makes room", { skip }, async () => {
  await using disk = await SmallDisk.create();
  assert.ok(disk);
  await using server = await ServerProcess.start(disk.store);
  await server.ok("vdi", "create", "disk", "1G");
  const client = await server.connect("disk");
  const pieces = await writeUntilFull(client);
  // All but the last: the oldest segments are dead as a whole.
  await client.trim(0, (pieces - 20) * pieceBytes);
  await client.flush();
  await assertWritable(client, 40);
  await assertReads(client, 40);
  await client.close();
});

test("room is made also where each segment still has something alive", { skip }, async () => {
  await using disk = await SmallDisk.create();
  assert.ok(disk);
  await using server = await ServerProcess.start(disk.store);
  await server.ok("vdi", "create", "disk", "1G");
  const client = await server.connect("disk");
  const pieces = await writeUntilFull(client);
  for (let piece = 0; piece < pieces; piece++) {
    if (piece % 2 === 0) await client.trim(piece * pieceBytes, pieceBytes);
  }
  await client.flush();
  await assertWritable(client, 20);
  await assertReads(client, 20);
  await client.close();
});

test("qemu-io is told that there is no space", {
  skip: skip || requireTool("qemu-io", "qemu-utils"),
}, async () => {
  await using disk = await SmallDisk.create();
  assert.ok(disk);
  await writeFile(join(disk.file("ballast")), Buffer.alloc(100 * mebibyte));
  await using server = await ServerProcess.start(disk.store);
  await server.ok("vdi", "create", "disk", "1G");
  const uri = server.uri("disk");
  await qemuIo(uri, ["write -P 1 0 1M", "flush"]);
  const args = ["-f", "raw", "-c", "write -P 2 1M 32M", "-c", "read -P 1 0 1M", uri];
  const { stdout, stderr } = await tryTool("qemu-io", args);
  assert.match(stdout + stderr, /No space left on device/);
  assert.match(stdout, /read 1048576\/1048576/);
});
