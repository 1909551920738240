import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import { openLocal } from "../../src/cli/local.ts";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { bytesOf, type CliResult, runCli } from "../support/cli-run.ts";
import { FakeStore } from "../support/fake-control.ts";
import { newVdi } from "../support/memory-objects.ts";

const host = createNodeHost({ logLevel: "silent" });

function world(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), "kelpie-backup-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const settings = { store: new FakeStore(), directory, openLocal };
  const kelpie = async (line: string, ...stdin: Uint8Array[]): Promise<CliResult> => {
    return await runCli(line.split(" "), { ...settings, stdin: bytesOf(...stdin) });
  };
  const bytes = async (line: string, ...stdin: Uint8Array[]): Promise<Buffer> => {
    const { exitCode, stdoutBytes, stderr } = await kelpie(line, ...stdin);
    assert.equal(exitCode, 0, `${line}: ${stderr}`);
    return stdoutBytes;
  };
  return { kelpie, bytes, directory };
}

/** The numbers of a stream's records: index, offset, length. */
function recordsOf(stream: Buffer): number[][] {
  assert.equal(stream.readUInt32LE(0), 1);
  assert.equal(stream.readUInt32LE(4), 0x11921192);
  const records: number[][] = [];
  let at = 8;
  while (stream.readUInt32LE(at) !== 0xffffffff) {
    const length = stream.readUInt32LE(at + 8);
    records.push([stream.readUInt32LE(at), stream.readUInt32LE(at + 4), length]);
    assert.equal(stream.readUInt32LE(at + 12), 0);
    at += 16 + length;
  }
  assert.equal(at + 16, stream.length);
  return records;
}

test("a backup has the records of dog, trimmed to sectors that differ; restore applies them", async (t) => {
  const { bytes, kelpie } = world(t);
  const random = new SeededRandom(1);
  await kelpie("vdi create d 10M");
  await bytes("vdi write d 0", random.bytes(6000));
  await bytes("vdi write d 5000000", random.bytes(100_000));
  await bytes("vdi snapshot d -s one");
  await bytes("vdi write d 700", random.bytes(10));
  await bytes("vdi write d 3000", random.bytes(10));
  await bytes("vdi write d 10485000", random.bytes(760));
  await bytes("vdi write d 5000000", new Uint8Array(100_000));
  await bytes("vdi snapshot d -s two");
  const full = await bytes("vdi backup d -s one");
  const change = await bytes("vdi backup d -F one -s two");
  const inSecond = 5_000_000 - 4 * 2 ** 20;
  const start = inSecond - (inSecond % 512);
  const end = Math.ceil((inSecond + 100_000) / 512) * 512;
  assert.deepEqual(recordsOf(full), [
    [0, 0, 6144],
    [1, start, end - start],
  ]);
  assert.deepEqual(recordsOf(change), [
    [0, 512, 2560],
    [1, start, end - start],
    [2, 2_096_128, 1024],
  ]);
  await bytes("vdi create e 10M");
  await bytes("vdi restore e", full.subarray(0, 1000), full.subarray(1000));
  assert.deepEqual(await bytes("vdi read e"), await bytes("vdi read d -s one"));
  await bytes("vdi restore e", change);
  assert.deepEqual(await bytes("vdi read e"), await bytes("vdi read d -s two"));
  // On what the disk held before, or put back first.
  await bytes("vdi write d 0", random.bytes(100));
  await bytes("vdi restore d -s one", change);
  assert.deepEqual(await bytes("vdi read d"), await bytes("vdi read d -s two"));
});

test("records count in objects of the size that the disk has for Sheepdog's clients", async (t) => {
  const { bytes, kelpie, directory } = world(t);
  await kelpie("vdi create x 1M");
  const store = await openLocalStore({ directory }, { host });
  for (const name of ["d", "e"]) {
    const settings = { sizeBytes: 32 * 2 ** 20, blockSizeShift: 23 };
    await store.sheepdog.objects.newVdi(newVdi(name, settings));
  }
  await store.close();
  await bytes("vdi write d 8388608", new Uint8Array(512).fill(7));
  await bytes("vdi snapshot d -s one");
  const full = await bytes("vdi backup d -s one");
  assert.deepEqual(recordsOf(full), [[1, 0, 512]]);
  await bytes("vdi restore e", full);
  assert.deepEqual(await bytes("vdi read e"), await bytes("vdi read d"));
});

test("of what changed only that is read, and nothing is changed for what is no backup", async (t) => {
  const { bytes, kelpie } = world(t);
  await kelpie("vdi create d 64M");
  await bytes("vdi write d 0", new SeededRandom(1).bytes(2 ** 20));
  await bytes("vdi write d 33554432", new SeededRandom(2).bytes(512));
  await bytes("vdi snapshot d -s one");
  await bytes("vdi write d 33554432", new Uint8Array(512).fill(9));
  await bytes("vdi resize d 80M");
  await bytes("vdi write d 70000000", new Uint8Array(10).fill(1));
  await bytes("vdi snapshot d -s two");
  const change = await bytes("vdi backup d -F one -s two");
  assert.deepEqual(
    recordsOf(change).map(([index]) => index),
    [8, 16],
  );
  await bytes("vdi write d 0", new Uint8Array(512).fill(7));
  const { exitCode, stderr } = await kelpie("vdi restore d -s one", Buffer.alloc(100, 1));
  assert.deepEqual([exitCode, /no backup/.test(stderr)], [64, true]);
  assert.equal((await bytes("vdi read d 0 1"))[0], 7, "it was not rolled back");
});

test("what is no backup, or not all of one, or of a larger disk, is refused", async (t) => {
  const { bytes, kelpie } = world(t);
  await kelpie("vdi create d 10M");
  await bytes("vdi write d 9000000", new Uint8Array(512).fill(1));
  await bytes("vdi snapshot d -s one");
  const full = await bytes("vdi backup d -s one");
  await kelpie("vdi create small 1M");
  for (const [name, input, text] of [
    ["d", Buffer.alloc(100), /no backup/],
    ["d", full.subarray(0, full.length - 1), /before its end/],
    ["d", full.subarray(0, 20), /before its end/],
    ["small", full, /larger disk/],
  ] as const) {
    const { exitCode, stderr } = await kelpie(`vdi restore ${name}`, input);
    assert.equal(exitCode, 64);
    assert.match(stderr, text);
  }
  const tooLong = Buffer.from(full);
  tooLong.writeUInt32LE(2 ** 22, 8 + 8);
  assert.match((await kelpie("vdi restore d", tooLong)).stderr, /more than 4194304 bytes/);
});
