import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { oldQemu, requireOldQemu } from "../support/old-qemu.ts";
import { QemuIoSession } from "../support/qemu-io.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { runTool } from "../support/tools.ts";

const skip = requireOldQemu();

const img = (...args: string[]) => runTool(oldQemu("qemu-img"), args);
/** Fails if a pattern is not found where it should be. */
const io = (uri: string, ...commands: string[]) =>
  runTool(oldQemu("qemu-io"), ["-f", "raw", ...commands.flatMap((one) => ["-c", one]), uri]);

/** A server, and the URI of a disk in it. */
async function serve() {
  const scratch = await Scratch.create();
  const server = await ServerProcess.start(scratch.file("store"));
  return {
    server,
    scratch,
    uri: (name: string) => `sheepdog://${server.sheepdog}/${name}`,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await scratch[Symbol.asyncDispose]();
    },
  };
}

describe("QEMU 5.2's driver and kelpie serve", () => {
  test("create, write, map, resize", { skip }, async () => {
    await using served = await serve();
    const disk = served.uri("test");
    await img("create", "-f", "raw", disk, "16M");
    await io(disk, "write -P 5 0 64k", "write -P 6 4190208 8k", "flush", "read -P 5 0 64k");
    const map: unknown = JSON.parse(await img("map", "-f", "raw", "--output=json", disk));
    assert.deepEqual(map, [
      { start: 0, length: 8 * 2 ** 20, depth: 0, zero: false, data: true, offset: 0 },
      { start: 8 * 2 ** 20, length: 8 * 2 ** 20, depth: 0, zero: false, data: false },
    ]);
    await img("resize", "-f", "raw", disk, "32M");
    assert.match(await img("info", "-f", "raw", disk), /virtual size: 32 MiB/);
    await io(disk, "read -P 6 4190208 8k", "read -P 0 65536 4k", "write -P 7 31M 1M");
  });

  test("what it writes reads the same over NBD, and the other way round", { skip }, async () => {
    await using served = await serve();
    await served.server.ok("vdi", "create", "test", "8M");
    const nbd = await served.server.connect("test");
    await nbd.write([Buffer.alloc(65_536, 9)], 2 ** 20);
    await io(served.uri("test"), "read -P 9 1M 64k", "write -P 8 1M 4k");
    const seen = Buffer.alloc(8192);
    await nbd.read(seen, 2 ** 20);
    assert.deepEqual([seen[0], seen[4095], seen[4096]], [8, 8, 9]);
    await nbd.close();
  });

  test("convert into it and out of it", { skip }, async () => {
    await using served = await serve();
    const [disk, copy] = [served.uri("test"), served.uri("copy")];
    await img("create", "-f", "raw", disk, "16M");
    await io(disk, "write -P 5 0 64k", "write -P 6 9M 5M");
    await img("convert", "-f", "raw", "-O", "raw", disk, copy);
    await img("compare", "-f", "raw", "-F", "raw", disk, copy);
    const file = served.scratch.file("copy.qcow2");
    await img("convert", "-f", "raw", "-O", "qcow2", copy, file);
    await img("compare", "-f", "raw", "-F", "qcow2", disk, file);
  });

  test("snapshots are taken, listed, gone back to and deleted", { skip }, async () => {
    await using served = await serve();
    const disk = served.uri("test");
    await img("create", "-f", "raw", disk, "16M");
    for (const [index, tag] of ["one", "two"].entries()) {
      await io(disk, `write -P ${index + 1} 0 4k`, "write -P 9 8M 4k");
      await img("snapshot", "-c", tag, disk);
    }
    await io(disk, "write -P 3 0 4k");
    assert.match(await img("snapshot", "-l", disk), /^1 +one .*\n2 +two /m);
    await img("snapshot", "-a", "one", disk);
    await io(disk, "read -P 1 0 4k", "write -P 4 4k 4k");
    assert.match(await img("snapshot", "-l", disk), /^1 +one .*\n2 +two .*\n$/m);
    await runTool(oldQemu("qemu-io"), ["-r", "-f", "raw", "-c", "read -P 2 0 4k", `${disk}#two`]);
    await img("snapshot", "-d", "two", disk);
    assert.doesNotMatch(await img("snapshot", "-l", disk), /two/);
    await io(disk, "read -P 1 0 4k", "read -P 4 4k 4k", "read -P 9 8M 4k");
    assert.match(await served.server.ok("vdi", "tree"), /one/);
    assert.equal((await served.server.cli("store", "check")).exitCode, 0);
  });

  test("a rollback to an older snapshot makes none, and undelete undoes it", { skip }, async () => {
    await using served = await serve();
    const disk = served.uri("test");
    await img("create", "-f", "raw", disk, "16M");
    await io(disk, "write -P 1 0 4k");
    await img("snapshot", "-c", "one", disk);
    await io(disk, "write -P 2 0 4k");
    await img("snapshot", "-a", "one", disk);
    await io(disk, "read -P 1 0 4k");
    const listed = (await served.server.json("vdi", "list")) as { name: string }[];
    assert.equal(listed.length, 2, "the snapshot and the working VDI");
    await served.server.ok("vdi", "undelete", "test");
    await io(disk, "read -P 2 0 4k");
  });

  test("an open disk follows snapshots that others take, and loses no write", {
    skip,
  }, async () => {
    await using served = await serve();
    const disk = served.uri("test");
    await img("create", "-f", "raw", disk, "16M");
    const session = await QemuIoSession.open(disk, oldQemu("qemu-io"));
    for (const [index, tag] of ["one", "two", "three"].entries()) {
      await session.run(`write -P ${index + 1} 0 8k`);
      await served.server.ok("vdi", "snapshot", "test", "-s", tag);
      await session.run(`write -P ${index + 101} 4k 4k`);
      await session.run(`read -P ${index + 1} 0 4k`);
      await session.run("flush");
    }
    await session.close();
    await io(disk, "read -P 3 0 4k", "read -P 103 4k 4k");
    for (const [index, tag] of ["one", "two", "three"].entries()) {
      const snapshot = ["-r", "-f", "raw", "-c", `read -P ${index + 1} 0 8k`, `${disk}#${tag}`];
      await runTool(oldQemu("qemu-io"), snapshot);
    }
  });

  test("an open disk goes on when the server is killed and started again", { skip }, async () => {
    await using served = await serve();
    const disk = served.uri("test");
    await img("create", "-f", "raw", disk, "16M");
    const session = await QemuIoSession.open(disk, oldQemu("qemu-io"));
    await session.run("write -P 1 0 64k");
    await served.server.stop("SIGKILL");
    const going = session.run("write -P 2 64k 64k");
    const { store, sheepdog } = served.server;
    const again = await ServerProcess.start(store, ["--sheepdog", sheepdog]);
    await going;
    await session.run("read -P 1 0 64k");
    await session.run("read -P 2 64k 64k");
    await again.stop();
    const later = session.run("write -P 3 128k 64k");
    await using third = await ServerProcess.start(store, ["--sheepdog", sheepdog]);
    await later;
    await session.run("read -P 3 128k 64k");
    await session.close();
    assert.equal((await third.cli("store", "check")).exitCode, 0);
  });

  test("the Unix socket in the store's directory, and addresses of the old form", {
    skip,
  }, async () => {
    await using scratch = await Scratch.create();
    const socket = scratch.file("sock");
    const listen = ["--sheepdog", `unix:${socket}`];
    await using server = await ServerProcess.start(scratch.file("store"), listen);
    const disk = `sheepdog+unix:///test?socket=${socket}`;
    await img("create", "-f", "raw", disk, "4M");
    await io(disk, "write -P 5 0 4k");
    await img("snapshot", "-c", "one", disk);
    await io(disk, "write -P 6 0 4k");
    const snapshot = `${disk}#one`;
    await runTool(oldQemu("qemu-io"), ["-r", "-f", "raw", "-c", "read -P 5 0 4k", snapshot]);
    await server.ok("vdi", "rollback", "test", "-s", "one");
    await io(disk, "read -P 5 0 4k");
    await using tcp = await serve();
    await img("create", "-f", "raw", `sheepdog:${tcp.server.sheepdog}:test`, "4M");
    assert.match(await img("info", "-f", "raw", `sheepdog:${tcp.server.sheepdog}:test`), /4 MiB/);
  });
});
