import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import { test } from "node:test";
import { runFio } from "../../bench/fio.ts";
import { PeerProcess } from "../../bench/peers/peer-process.ts";
import { within } from "../../bench/time-limit.ts";
import { Scratch } from "../support/server-process.ts";
import { requireTool } from "../support/tools.ts";

test("what is not done in time is an error that names it, and is given up", async () => {
  const never = new Promise(() => {});
  let given = 0;
  const giveUp = () => void given++;
  await assert.rejects(
    within({ what: "a call", ms: 20, giveUp }, never),
    /a call: not done in 0.02 s/,
  );
  assert.equal(given, 1);
  assert.equal(await within({ what: "a call", ms: 20_000, giveUp }, Promise.resolve(7)), 7);
});

test("a server that listens has not started before it greets", async () => {
  await using scratch = await Scratch.create();
  const socket = scratch.file("socket");
  const greetsMs = 300;
  const program = `
    let serves = false;
    setTimeout(() => { serves = true; }, ${greetsMs});
    require("node:net")
      .createServer((connection) => connection.end(serves ? "NBDMAGIC" : ""))
      .listen(${JSON.stringify(socket)});`;
  const startMs = performance.now();
  const server = await PeerProcess.start(process.execPath, ["-e", program], socket);
  await server.stop();
  assert.ok(performance.now() - startMs >= greetsMs);
});

test("qemu-nbd ends when it is stopped right after its start", {
  skip: requireTool("qemu-nbd", "qemu-utils"),
}, async () => {
  await using scratch = await Scratch.create();
  const disk = scratch.file("disk.raw");
  const file = await open(disk, "w");
  await file.truncate(2 ** 20);
  await file.close();
  for (let time = 0; time < 5; time++) {
    const socket = scratch.file(`socket${time}`);
    const server = await PeerProcess.start(
      "qemu-nbd",
      ["-t", "-k", socket, "-f", "raw", disk],
      socket,
    );
    await server.stop();
  }
});

test("fio on a server that stands still is given up, and that is an error", {
  skip: requireTool("fio", "fio") || requireTool("nbdkit", "nbdkit"),
}, async () => {
  await using scratch = await Scratch.create();
  const socket = scratch.file("socket");
  const server = await PeerProcess.start("nbdkit", ["-f", "-U", socket, "memory", "1M"], socket);
  server.pause();
  try {
    const job = { uri: server.uri, rw: "randread", queueDepth: 1, runtimeMs: 10 } as const;
    await assert.rejects(runFio({ ...job, graceMs: 500 }), /randread .*not done in 0.51 s/s);
  } finally {
    server.resume();
    await server.stop();
  }
});
