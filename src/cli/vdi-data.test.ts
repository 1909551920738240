import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { bytesOf, runCli } from "../../test/support/cli-run.ts";
import { FakeStore } from "../../test/support/fake-control.ts";
import { KelpieError } from "../base/errors.ts";
import type { MemoryDevice } from "../block/memory-device.ts";

const mebibyte = 2 ** 20;

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "kelpie-data-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function contents(device: MemoryDevice): Buffer {
  const bytes = Buffer.alloc(device.sizeBytes);
  device.read(bytes, 0);
  return bytes;
}

/** Data at both ends and in the middle, across pieces; holes between. */
function sparseImage(sizeBytes: number): Buffer {
  const image = Buffer.alloc(sizeBytes);
  randomBytes(5000).copy(image, 0);
  randomBytes(200_000).copy(image, mebibyte - 100_000);
  randomBytes(4096).copy(image, sizeBytes - 4096);
  return image;
}

test("an imported file reads back from the disk, and its zeros are holes", async (t) => {
  const store = new FakeStore();
  const file = join(directory(t), "image");
  const image = sparseImage(10 * mebibyte);
  writeFileSync(file, image);
  const result = await runCli(["vdi", "import", file, "d"], { store });
  assert.equal(result.stdout, "d: imported, 10 MiB, 384 KiB of data\n");
  assert.ok(contents(store.device("d")).equals(image));
  assert.ok(store.device("d").allocatedBytes < mebibyte);
});

test("an exported disk or snapshot is the same file again, with its holes", async (t) => {
  const store = new FakeStore();
  const path = directory(t);
  const image = sparseImage(10 * mebibyte);
  writeFileSync(join(path, "in"), image);
  await runCli(["vdi", "import", join(path, "in"), "d"], { store });
  await runCli(["vdi", "snapshot", "d", "-s", "s"], { store });
  store.device("d").write([Buffer.from("changed")], 0);
  for (const [name, changed] of [
    ["d", true],
    ["d@s", false],
    ["d@#1", false],
  ] as const) {
    const out = join(path, name);
    const result = await runCli(["vdi", "export", name, out, "--json"], { store });
    assert.equal(result.exitCode, 0, result.stderr);
    const expected = Buffer.from(image);
    if (changed) expected.write("changed");
    assert.ok(readFileSync(out).equals(expected), name);
    assert.ok(statSync(out).blocks * 512 < mebibyte, "has holes");
    assert.ok(JSON.parse(result.stdout).dataBytes < mebibyte);
    const stream = await runCli(["vdi", "export", name, "-"], { store });
    assert.ok(stream.stdoutBytes.equals(expected), name);
  }
  assert.deepEqual(readdirSync(path).sort(), ["d", "d@#1", "d@s", "in"]);
});

test("an export replaces a file only when told to, and leaves nothing when it fails", async (t) => {
  const store = new FakeStore();
  const path = directory(t);
  const out = join(path, "out");
  await runCli(["vdi", "create", "d", "1M"], { store });
  writeFileSync(out, "precious");
  const refused = await runCli(["vdi", "export", "d", out], { store });
  assert.equal(refused.exitCode, 3);
  assert.match(refused.stderr, /out: it is there already\n.*-f/);
  store.device("d").write([Buffer.alloc(4096, 1)], 0);
  t.mock.method(store.device("d"), "read", () => {
    throw new KelpieError("corrupt", "d: block 0 is damaged");
  });
  const failed = await runCli(["vdi", "export", "d", out, "-f"], { store });
  assert.deepEqual([failed.exitCode, failed.stderr], [2, "kelpie: d: block 0 is damaged\n"]);
  assert.equal(readFileSync(out, "utf8"), "precious");
  t.mock.restoreAll();
  assert.equal((await runCli(["vdi", "export", "d", out, "-f"], { store })).exitCode, 0);
  for (const target of [path, "/dev/null"]) {
    const { exitCode, stderr } = await runCli(["vdi", "export", "d", target, "-f"], { store });
    assert.equal(exitCode, 64);
    assert.match(stderr, /it is not a regular file/);
  }
  assert.equal(statSync(out).size, mebibyte);
  assert.deepEqual(readdirSync(path), ["out"]);
});

test("a stream is imported whatever its chunks, and the disk is as large as the stream", async () => {
  const store = new FakeStore();
  const image = sparseImage(3 * mebibyte + 512);
  const chunks = [image.subarray(0, 1), image.subarray(1, 1_500_000), image.subarray(1_500_000)];
  const result = await runCli(["vdi", "import", "-", "d"], { store, stdin: bytesOf(...chunks) });
  assert.equal(result.exitCode, 0, result.stderr);
  assert.ok(contents(store.device("d")).equals(image));
  const larger = { store, stdin: bytesOf(image) };
  await runCli(["vdi", "import", "-", "e", "--size", "4M"], larger);
  const expected = Buffer.concat([image, Buffer.alloc(4 * mebibyte - image.length)]);
  assert.ok(contents(store.device("e")).equals(expected));
});

test("a file of an odd size becomes a disk of whole sectors", async (t) => {
  const store = new FakeStore();
  const file = join(directory(t), "odd");
  writeFileSync(file, "hello\n");
  await runCli(["vdi", "import", file, "d"], { store });
  const expected = Buffer.alloc(512);
  expected.write("hello\n");
  assert.ok(contents(store.device("d")).equals(expected));
  const read = await runCli(["vdi", "read", "d", "1", "4"], { store });
  assert.equal(read.stdout, "ello");
});

test("foreign images are refused with commands that convert them, unless told to take them", async (t) => {
  const store = new FakeStore();
  const file = join(directory(t), "disk of mine.qcow2");
  const image = Buffer.alloc(65536);
  image.write("QFI\xfb\0\0\0\x03", 0, "latin1");
  image.writeBigUInt64BE(BigInt(10 * 2 ** 30), 24);
  writeFileSync(file, image);
  const refused = await runCli(["vdi", "import", file, "d"], { store });
  assert.equal(refused.exitCode, 64);
  assert.equal(
    refused.stderr,
    `kelpie: ${file}: it is a qcow2 image, not a raw one
qemu-img convert -O raw -f qcow2 '${file}' '${file}.raw'
kelpie vdi import '${file}.raw' d
(--raw imports it as it is)
`,
  );
  assert.deepEqual(await store.control.call("vdi.list", {}), []);
  const taken = await runCli(["vdi", "import", file, "d", "--raw"], { store });
  assert.equal(taken.exitCode, 0);
  assert.ok(contents(store.device("d")).equals(image));
  const xz = { store, stdin: bytesOf("\xfd7zXZ\0") };
  xz.stdin = bytesOf(Buffer.from("\xfd7zXZ\0", "latin1"));
  const packed = await runCli(["vdi", "import", "-", "e"], xz);
  assert.match(packed.stderr, /it is a xz file\nxz -dc \| kelpie vdi import - e\n/);
});

test("what cannot be imported is refused before a disk is made", async (t) => {
  const store = new FakeStore();
  const path = directory(t);
  writeFileSync(join(path, "empty"), "");
  writeFileSync(join(path, "large"), Buffer.alloc(2 * mebibyte));
  const examples: [string[], number, RegExp][] = [
    [[join(path, "missing"), "d"], 5, /missing/],
    [[path, "d"], 64, /a directory/],
    [["/dev/null", "d"], 64, /use - and < \/dev\/null/],
    [[join(path, "empty"), "d"], 64, /the image is empty/],
    [[join(path, "large"), "d", "--size", "1M"], 64, /larger than the disk/],
  ];
  for (const [argv, exitCode, message] of examples) {
    const result = await runCli(["vdi", "import", ...argv], { store });
    assert.equal(result.exitCode, exitCode, argv.join(" "));
    assert.match(result.stderr, message);
  }
  assert.deepEqual(await store.control.call("vdi.list", {}), []);
  assert.deepEqual(await store.control.call("vdi.discarded", {}), []);
});

test("an import that fails or is interrupted half-way leaves no disk", async () => {
  const store = new FakeStore();
  const interrupt = new AbortController();
  async function* failing() {
    yield Buffer.alloc(2 * mebibyte, 1);
    throw new KelpieError("io", "the pipe broke");
  }
  async function* interrupted() {
    yield Buffer.alloc(2 * mebibyte, 1);
    interrupt.abort(new KelpieError("closed", "interrupted"));
    yield Buffer.alloc(20 * mebibyte, 1);
  }
  const broken = await runCli(["vdi", "import", "-", "d"], { store, stdin: failing() });
  assert.deepEqual([broken.exitCode, broken.stderr], [2, "kelpie: the pipe broke\n"]);
  const { signal } = interrupt;
  const stopped = await runCli(["vdi", "import", "-", "d"], {
    store,
    stdin: interrupted(),
    signal,
  });
  assert.equal(stopped.exitCode, 130);
  const empty = await runCli(["vdi", "import", "-", "d"], { store });
  assert.match(empty.stderr, /the image is empty/);
  const larger = { store, stdin: bytesOf(Buffer.alloc(2 * mebibyte)) };
  const full = await runCli(["vdi", "import", "-", "d", "--size", "1M"], larger);
  assert.match(full.stderr, /larger than the disk/);
  assert.deepEqual(await store.control.call("vdi.list", {}), []);
});

test("import does not touch a disk that is there", async () => {
  const store = new FakeStore();
  await runCli(["vdi", "create", "d", "1M"], { store });
  const result = await runCli(["vdi", "import", "-", "d"], { store, stdin: bytesOf("x") });
  assert.equal(result.exitCode, 3);
  assert.equal(store.device("d").sizeBytes, mebibyte);
});

test("write and read move any bytes, aligned or not, and leave those beside them", async () => {
  const store = new FakeStore();
  const before = randomBytes(4 * mebibyte);
  await runCli(["vdi", "import", "-", "d"], { store, stdin: bytesOf(before) });
  for (const offset of [0, 1, 511, 4096, mebibyte - 1, 2 * mebibyte - 100]) {
    for (const length of [1, 512, 8192, 3 * mebibyte]) {
      if (offset + length > 4 * mebibyte) continue;
      const expected = contents(store.device("d"));
      const bytes = randomBytes(length);
      bytes.fill(0, Math.floor(length / 4), Math.floor(length / 2));
      bytes.copy(expected, offset);
      const argv = ["vdi", "write", "d", `${offset}`, `${length}`];
      const written = await runCli(argv, { store, stdin: bytesOf(bytes) });
      assert.deepEqual([written.exitCode, written.stdout, written.stderr], [0, "", ""]);
      assert.ok(contents(store.device("d")).equals(expected), argv.join(" "));
      const read = await runCli(["vdi", "read", "d", `${offset}`, `${length}`], { store });
      assert.ok(read.stdoutBytes.equals(bytes), argv.join(" "));
    }
  }
});

test("read takes snapshots by tag and id, and sizes as people write them", async () => {
  const store = new FakeStore();
  await runCli(["vdi", "import", "-", "d"], { store, stdin: bytesOf(Buffer.alloc(8192, "a")) });
  await runCli(["vdi", "snapshot", "d", "-s", "s"], { store });
  await runCli(["vdi", "write", "d", "4k"], { store, stdin: bytesOf(Buffer.alloc(4096, "b")) });
  const read = async (...argv: string[]) =>
    (await runCli(["vdi", "read", "d", ...argv], { store })).stdout;
  assert.equal(await read("4095", "2"), "ab");
  assert.equal(await read("4095", "2", "-s", "s"), "aa");
  assert.equal(await read("4095", "2", "-s", "1"), "aa");
  assert.equal(await read("4k"), "b".repeat(4096));
  assert.equal(await read("8k"), "");
});

test("write and read past the end are refused, and input of the wrong length", async () => {
  const store = new FakeStore();
  await runCli(["vdi", "create", "d", "4096"], { store });
  const examples: [string[], string, RegExp][] = [
    [["read", "d", "0", "4097"], "", /reach past its end at 4096/],
    [["read", "d", "5000"], "", /reach past its end/],
    [["write", "d", "4096", "1"], "x", /reach past its end/],
    [["write", "d"], "x".repeat(4097), /input is longer than the disk/],
    [["write", "d", "0", "10"], "short", /ended after 5 of 10 bytes/],
    [["write", "d", "-s", "x"], "", /unknown option/],
  ];
  for (const [argv, input, message] of examples) {
    const result = await runCli(["vdi", ...argv], { store, stdin: bytesOf(input) });
    assert.equal(result.exitCode, 64, argv.join(" "));
    assert.match(result.stderr, message);
  }
});

test("progress goes to a terminal only, and is gone at the end", async (t) => {
  const store = new FakeStore();
  const file = join(directory(t), "image");
  writeFileSync(file, sparseImage(4 * mebibyte));
  const quiet = await runCli(["vdi", "import", file, "d"], { store });
  assert.equal(quiet.stderr, "");
  const shown = await runCli(["vdi", "import", file, "e"], { store, terminal: true });
  assert.match(shown.stderr, /^\rimport e: 25 % of 4\.0 MiB/);
  assert.ok(shown.stderr.endsWith("\r\x1b[K"));
  assert.ok(existsSync(file));
});
