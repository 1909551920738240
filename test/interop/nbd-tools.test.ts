import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { BlockDevice } from "../../src/block/block-device.ts";
import { ExtentList } from "../../src/block/extent-list.ts";
import { MemoryDevice } from "../../src/block/memory-device.ts";
import { readOnlyDevice } from "../../src/block/read-only.ts";
import { StaticExports } from "../../src/block/static-exports.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { connectNbd } from "../../src/nbd/client.ts";
import { createNbdServer, type NbdServer } from "../../src/nbd/server.ts";
import { formatNbdUri } from "../../src/nbd/uri.ts";
import { requireTool, runTool, tryTool } from "../support/tools.ts";

const mebibyte = 2 ** 20;
const diskBytes = 64 * mebibyte;

const noQemuImg = requireTool("qemu-img", "qemu-utils");
const noQemuIo = requireTool("qemu-io", "qemu-utils");
const noNbdinfo = requireTool("nbdinfo", "libnbd-bin");
const noNbdcopy = requireTool("nbdcopy", "libnbd-bin");
const noNbdkit = requireTool("nbdkit", "nbdkit");
const noFio = requireTool("fio", "fio");

/** A disk that says that its second MiB has changed since "before". */
function changedDisk(): BlockDevice {
  const device = new MemoryDevice(4 * mebibyte);
  const extents = device.extents.bind(device);
  device.changeBases = async () => ["before"];
  device.extents = async (query) => {
    if (query.kind !== "changed") return extents(query);
    const list = new ExtentList(query.offset, query.offset + query.length, query.extentsMax);
    list.upTo(mebibyte, 0);
    list.upTo(2 * mebibyte, 1);
    list.upTo(device.sizeBytes, 0);
    return list.extents;
  };
  return device;
}

for (const transport of ["unix", "tcp"] as const) {
  describe(`over a ${transport} socket`, () => {
    const host = createNodeHost({ logLevel: "error" });
    let directory = "";
    let server: NbdServer;
    let disk: MemoryDevice;
    const uri = (exportName: string) => {
      const [address] = server.addresses;
      assert.ok(address);
      return formatNbdUri({ address, exportName });
    };
    const path = (name: string) => join(directory, name);

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), "kelpie-nbd-"));
      disk = new MemoryDevice(diskBytes);
      const exports = new StaticExports(
        new Map<string, { device: BlockDevice; description?: string }>([
          ["disk", { device: disk, description: "a disk in memory" }],
          ["fixed@one", { device: readOnlyDevice(new MemoryDevice(mebibyte)) }],
          ["changed", { device: changedDisk() }],
        ]),
      );
      const address =
        transport === "unix"
          ? ({ kind: "unix", path: path("nbd.sock") } as const)
          : ({ kind: "tcp", host: "127.0.0.1", port: 0 } as const);
      server = await createNbdServer({ addresses: [address] }, { ...host, exports });
    });

    after(async () => {
      await server.close();
      await rm(directory, { recursive: true });
    });

    test("nbdinfo lists the exports and what they can do", { skip: noNbdinfo }, async () => {
      const listed = JSON.parse(await runTool("nbdinfo", ["--json", "--list", uri("")]));
      const names = listed.exports.map((entry: Record<string, unknown>) => entry["export-name"]);
      assert.deepEqual(names, ["disk", "fixed@one", "changed"]);
      const facts = listed.exports[0];
      assert.equal(facts["export-size"], diskBytes);
      assert.equal(facts.description, "a disk in memory");
      assert.deepEqual(facts.contexts, ["base:allocation", "qemu:allocation-depth"]);
      for (const can of [
        "cache",
        "df",
        "fast_zero",
        "flush",
        "fua",
        "multi_conn",
        "trim",
        "zero",
      ]) {
        assert.equal(facts[`can_${can}`], true, can);
      }
      assert.equal(facts.is_read_only, false);
      const sizes = ["minimum", "preferred", "maximum"].map((kind) => facts[`block_size_${kind}`]);
      assert.deepEqual(sizes, [1, 4096, 32 * mebibyte]);
      assert.equal(listed.exports[1].is_read_only, true);
    });

    test("an unknown export is refused in words", { skip: noNbdinfo }, async () => {
      const { status, stderr } = await tryTool("nbdinfo", [uri("nope")]);
      assert.notEqual(status, 0);
      assert.match(stderr, /nope|not? /);
    });

    test("nbdinfo --map shows what was written", { skip: noNbdinfo || noQemuIo }, async () => {
      disk.trim(0, diskBytes);
      await qemuIo(uri("disk"), ["write -P 3 8M 1M", "write -z 20M 1M", "write -z -u 30M 1M"]);
      const map = JSON.parse(await runTool("nbdinfo", ["--json", "--map", uri("disk")]));
      const extents = map.map(({ offset, length, type }: Record<string, number>) => {
        return [offset, length, type].map((value, index) =>
          index < 2 ? (value as number) / mebibyte : value,
        );
      });
      assert.deepEqual(extents, [
        [0, 8, 3],
        [8, 1, 0],
        [9, 11, 3],
        [20, 1, 2], // without MAY_UNMAP qemu-io sends NO_HOLE
        [21, 43, 3],
      ]);
    });

    test("qemu-img and nbdinfo see the dirty bitmap", {
      skip: noNbdinfo || noQemuImg,
    }, async () => {
      const context = "qemu:dirty-bitmap:before";
      const totals = ["--json", `--map=${context}`, uri("changed")];
      const map: { offset: number; length: number; type: number }[] = JSON.parse(
        await runTool("nbdinfo", totals),
      );
      const dirty = map.filter(({ type }) => type === 1);
      assert.deepEqual(
        dirty.map(({ offset, length }) => [offset, length]),
        [[mebibyte, mebibyte]],
      );
      const [address] = server.addresses;
      assert.ok(address);
      const where =
        address.kind === "unix"
          ? `server.type=unix,server.path=${address.path}`
          : `server.type=inet,server.host=${address.host},server.port=${address.port}`;
      const image = `driver=nbd,export=changed,x-dirty-bitmap=${context},${where}`;
      const args = ["map", "--output=json", "--image-opts", image];
      const extents: { start: number; length: number; data: boolean }[] = JSON.parse(
        await runTool("qemu-img", args),
      );
      // QEMU shows what is dirty as not being data.
      const marked = extents.filter(({ data }) => !data);
      assert.deepEqual(
        marked.map(({ start, length }) => [start, length]),
        [[mebibyte, mebibyte]],
      );
    });

    test("qemu-io finds what it wrote, at odd places too", { skip: noQemuIo }, async () => {
      disk.trim(0, diskBytes);
      await qemuIo(uri("disk"), [
        "write -P 1 0 64k",
        "write -P 2 1000 3000",
        "write -f -P 3 1M 32M",
        "discard 2M 1M",
        "write -z 4M 1M",
        "flush",
        "aio_write -P 4 40M 1M",
        "aio_write -P 5 41M 1M",
        "aio_flush",
        "read -P 1 0 1000",
        "read -P 2 1000 3000",
        "read -P 1 4000 1000",
        "read -P 3 1M 1M",
        "read -P 0 4M 1M",
        "read -P 4 40M 1M",
        "read -P 5 41M 1M",
      ]);
    });

    test("qemu-io is told that a snapshot is read-only", { skip: noQemuIo }, async () => {
      const { status } = await tryTool("qemu-io", [
        "-f",
        "raw",
        "-c",
        "write 0 512",
        uri("fixed@one"),
      ]);
      assert.notEqual(status, 0);
      await runTool("qemu-io", ["-r", "-f", "raw", "-c", "read -P 0 0 512", uri("fixed@one")]);
    });

    test("an image goes in with qemu-img and comes out with nbdcopy", {
      skip: noQemuImg || noNbdcopy,
    }, async () => {
      const image = path("in.raw");
      await writeFile(image, Buffer.alloc(5 * mebibyte, "kelpie "));
      await truncate(image, diskBytes);
      await runTool("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", image, uri("disk")]);
      const same = await runTool("qemu-img", [
        "compare",
        "-f",
        "raw",
        "-F",
        "raw",
        image,
        uri("disk"),
      ]);
      assert.match(same, /identical/);
      await runTool("nbdcopy", ["--connections=2", uri("disk"), path("out.raw")]);
      assert.equal(Buffer.compare(await readFile(path("out.raw")), await readFile(image)), 0);
      await runTool("nbdcopy", ["--flush", image, uri("disk")]);
      await runTool("qemu-img", ["compare", "-f", "raw", "-F", "raw", image, uri("disk")]);
    });

    test("fio verifies what it wrote at random", { skip: noFio }, async () => {
      const report = path("fio.json");
      await runTool("fio", [
        "--name=verify",
        "--ioengine=nbd",
        `--uri=${uri("disk")}`,
        "--rw=randrw",
        "--bsrange=512-128k",
        "--bs_unaligned=0",
        "--iodepth=32",
        "--size=32M",
        "--fsync=50",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0", // It would be left in the working directory.
        `--output=${report}`,
        "--output-format=json",
      ]);
      const [job] = JSON.parse(await readFile(report, "utf8")).jobs;
      assert.equal(job.error, 0);
      assert.ok(job.write.total_ios > 100);
    });
  });
}

async function qemuIo(uri: string, commands: readonly string[]): Promise<void> {
  const args = commands.flatMap((command) => ["-c", command]);
  const said = await runTool("qemu-io", ["-f", "raw", ...args, uri]);
  assert.doesNotMatch(said, /verification failed|error/i);
}

test("our client talks to nbdkit and gets back what it wrote", { skip: noNbdkit }, async () => {
  const directory = await mkdtemp(join(tmpdir(), "kelpie-nbdkit-"));
  const path = join(directory, "nbdkit.sock");
  const nbdkit = spawn("nbdkit", ["-f", "-U", path, "memory", "16M"], { stdio: "ignore" });
  const exited = new Promise((resolve) => nbdkit.once("exit", resolve));
  try {
    const host = createNodeHost({ logLevel: "error" });
    const address = { kind: "unix", path } as const;
    let client = await connectNbd({ address, exportName: "" }, host).catch(() => undefined);
    for (let tries = 0; client === undefined && tries < 100; tries++) {
      await host.timers.sleep(20);
      client = await connectNbd({ address, exportName: "" }, host).catch(() => undefined);
    }
    assert.ok(client);
    assert.equal(client.terms.style, "structured");
    const bytes = new Uint8Array(3 * mebibyte).map((_, at) => at >>> 8);
    await client.write([bytes], 12_345, { fua: true });
    const back = new Uint8Array(bytes.length);
    await client.read(back, 12_345);
    assert.equal(Buffer.compare(back, bytes), 0);
    await client.zero(12_345, bytes.length);
    const query = {
      kind: "allocation",
      offset: 8 * mebibyte,
      length: mebibyte,
      extentsMax: 4,
    } as const;
    assert.deepEqual(await client.extents(query), [{ lengthBytes: mebibyte, value: 1 }]);
    await client.flush();
    await client.close();
  } finally {
    nbdkit.kill();
    await exited;
    await rm(directory, { recursive: true });
  }
});
