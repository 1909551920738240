import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import { command } from "../../src/nbd/wire-transmission.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";

const mebibyte = 2 ** 20;
const diskBytes = 64 * mebibyte;
const einval = 22;
const eoverflow = 75;

let scratch: Scratch;
let server: ServerProcess;
before(async () => {
  scratch = await Scratch.create();
  server = await ServerProcess.start(scratch.path);
  await server.ok("vdi", "create", "disk", String(diskBytes));
  const client = await server.connect("disk");
  await client.write([Buffer.alloc(diskBytes / 2, 1)], 0);
  await client.close();
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await scratch[Symbol.asyncDispose]();
});

/** The disk works, and nobody but us is on it. */
async function assertServes(): Promise<void> {
  const client = await server.connect("disk");
  const block = Buffer.alloc(4096);
  await client.read(block, 0);
  assert.ok(block.every((byte) => byte === 1));
  await client.close();
  const deadlineMs = performance.now() + 10_000;
  for (;;) {
    const { clients } = await server.control.call("vdi.info", { name: "disk" });
    if (clients.length === 0) return;
    assert.ok(performance.now() < deadlineMs, `${clients.length} are still there`);
    await sleep(20);
  }
}

test("clients that vanish in the middle of requests, under load, take nothing with them", async () => {
  const half = diskBytes / 2;
  const good = await server.connect("disk");
  let isStopped = false;
  let rounds = 0;
  const load = (async () => {
    const back = Buffer.alloc(mebibyte);
    while (!isStopped) {
      rounds++;
      const bytes = Buffer.alloc(mebibyte, rounds % 256);
      await good.write([bytes], half);
      await good.read(back, half);
      assert.equal(back.compare(bytes), 0);
    }
  })();
  const random = new SeededRandom(4_711);
  for (let count = 0; count < 60; count++) {
    const kind = count % 2 === 0 ? "unix" : "tcp";
    const bad = await (await RawSocket.connect(server.address(kind))).go("disk");
    for (let more = random.below(20); more > 0; more--) {
      bad.request(command.read, random.below(half), 1 + random.below(mebibyte));
    }
    bad.request(command.write, 0, 64 * 1024);
    bad.socket.write(Buffer.alloc(random.below(64 * 1024), 0xbd)); // Never all of it.
    if (random.below(2) === 0) await sleep(random.below(5));
    bad.vanish();
  }
  isStopped = true;
  await load;
  assert.ok(rounds > 10);
  // A write that has not arrived as a whole has not happened.
  const bytes = Buffer.alloc(64 * 1024);
  await good.read(bytes, 0);
  assert.ok(bytes.every((byte) => byte === 1));
  await good.close();
  await assertServes();
});

test("garbage, before the handshake and after it, ends that connection only", async () => {
  const random = new SeededRandom(815);
  for (let count = 0; count < 20; count++) {
    const early = await RawSocket.connect(server.address());
    early.socket.write(random.bytes(1 + random.below(5000)));
    early.socket.end();
    await early.closed();
    const late = await (await RawSocket.connect(server.address())).go("disk");
    late.socket.write(random.bytes(28 + random.below(5000)));
    await late.closed();
  }
  assert.equal(server.isRunning, true);
  await assertServes();
});

test("a read of nearly 4 GiB is an error, costs no memory, and the next request is served", async () => {
  const before = await memory();
  const client = await (await RawSocket.connect(server.address())).go("disk");
  for (let count = 0; count < 50; count++) {
    client.request(command.read, 0, 2 ** 32 - 1);
    const reply = await client.take(16);
    const error = reply.readUInt32BE(4);
    assert.ok(error === einval || error === eoverflow, `error ${error}`);
  }
  client.request(command.read, 0, 512);
  const reply = await client.take(16 + 512);
  assert.equal(reply.readUInt32BE(4), 0);
  assert.equal(reply[16], 1);
  assert.ok((await memory()).peakBytes - before.peakBytes < 32 * mebibyte);
  client.vanish();
  await assertServes();
});

test("clients that never read their replies cost bounded memory, and others no time", async () => {
  const before = await memory();
  const clients: RawSocket[] = [];
  // 1 GiB each, were there no limit.
  for (let count = 0; count < 3; count++) {
    const client = await (await RawSocket.connect(server.address())).go("disk");
    client.socket.pause();
    for (let read = 0; read < 256; read++) client.request(command.read, 0, 4 * mebibyte);
    clients.push(client);
  }
  const deadlineMs = performance.now() + 2000;
  let served = 0;
  while (performance.now() < deadlineMs) {
    const startMs = performance.now();
    const good = await server.connect("disk");
    await good.read(Buffer.alloc(mebibyte), 0);
    await good.close();
    assert.ok(performance.now() - startMs < 1500);
    served++;
    await sleep(50);
  }
  assert.ok(served > 3);
  const { peakBytes } = await memory();
  // Each may have 96 MiB in flight; the rest is for garbage that is not collected yet.
  const limit = before.peakBytes + 3 * 96 * mebibyte + 160 * mebibyte;
  assert.ok(peakBytes < limit, `${peakBytes / mebibyte} MiB`);
  for (const client of clients) client.vanish();
  await assertServes();
});

test("a second SIGINT does not wait for a client that takes no answers", async () => {
  await using another = await ServerProcess.start(scratch.file("another"));
  await another.ok("vdi", "create", "disk", "64M");
  const client = await (await RawSocket.connect(another.address())).go("disk");
  client.socket.pause();
  for (let read = 0; read < 16; read++) client.request(command.read, 0, 4 * mebibyte);
  await sleep(200);
  const ended = another.stop("SIGINT");
  await sleep(200);
  assert.equal(another.isRunning, true);
  const startMs = performance.now();
  void another.stop("SIGINT");
  assert.equal((await ended).exitCode, 130);
  assert.ok(performance.now() - startMs < 2000);
  client.vanish();
});

/** Of the server process, resident and at its highest. */
async function memory(): Promise<{ peakBytes: number }> {
  const status = await readFile(`/proc/${server.pid}/status`, "utf8");
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  assert.ok(kibibytes);
  return { peakBytes: Number(kibibytes) * 1024 };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
