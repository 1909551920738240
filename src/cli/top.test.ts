import assert from "node:assert/strict";
import { test } from "node:test";
import { runHere, Scratch, ServerProcess } from "../../test/support/server-process.ts";

test("top shows what the server does, once where no person looks", async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await server.ok("vdi", "create", "d", "1M");
  const device = await server.connect("d");
  await device.write([Buffer.alloc(4096)], 0);
  const shown = await server.ok("top");
  assert.match(shown, /^1 connections, 0 requests in flight\n/);
  assert.match(shown, /^Export +Reads\/s +Writes\/s/m);
  assert.match(shown, /^all +0\.0/m);
  const statistics = (await server.json("top")) as { connections: number };
  assert.equal(statistics.connections, 1);
  await device.close();
});

test("without a server there is nothing to show", async () => {
  await using scratch = await Scratch.create();
  const store = scratch.file("store");
  const server = await ServerProcess.start(store);
  await server.stop();
  const { exitCode, stderr } = await runHere(store, "top");
  assert.equal(exitCode, 1);
  assert.match(stderr, /no server has the store open\nkelpie serve is one/);
});
