import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { test } from "node:test";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, tryTool } from "../support/tools.ts";

const noFio = requireTool("fio", "fio");

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`${signal} under load: exit code 0, no sockets left, and nothing to recover`, {
    skip: noFio,
  }, async () => {
    await using scratch = await Scratch.create();
    const store = scratch.file("store");
    {
      await using server = await ServerProcess.start(store);
      await server.ok("vdi", "create", "disk", "64M");
      const client = await server.connect("disk");
      await client.write([Buffer.alloc(mebibyte, 7)], 63 * mebibyte);
      await client.close();
      const fio = tryTool("fio", [
        ...["--name=load", "--ioengine=nbd", `--uri=${server.uri("disk")}`, "--iodepth=32"],
        ...["--rw=randwrite", "--bsrange=512-64k", "--fsync=100", "--size=63M"],
        ...["--time_based", "--runtime=30"],
      ]);
      await until(async () => {
        const { entry, clients } = await server.control.call("vdi.info", { name: "disk" });
        return clients.length > 0 && entry.mappedBytes > 8 * mebibyte;
      });
      const { exitCode, stderr } = await server.stop(signal);
      assert.equal(exitCode, 0, stderr);
      assert.equal(stderr, "");
      // It lost its disk in the middle of its work: it must have been told.
      assert.notEqual((await fio).status, 0);
    }
    const left = await readdir(store);
    assert.deepEqual(
      left.filter((name) => name.endsWith(".sock")),
      [],
    );
    const host = createNodeHost({ logLevel: "silent" });
    const reopened = await openLocalStore({ directory: store }, { host });
    assert.equal(reopened.vdis.store.replayedEntries, 0);
    const block = Buffer.alloc(mebibyte);
    await reopened.vdis.volume("disk").read(block, 63 * mebibyte);
    assert.ok(block.every((byte) => byte === 7));
    const { findings } = await reopened.control.call("store.check", {});
    assert.deepEqual(findings, []);
    await reopened.close();
  });
}

test("after SIGKILL there is something to recover", async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.path);
  await server.ok("vdi", "create", "disk", "64M");
  const client = await server.connect("disk");
  await client.write([Buffer.alloc(mebibyte, 7)], 0);
  await server.stop("SIGKILL");
  await client.close();
  const host = createNodeHost({ logLevel: "silent" });
  const reopened = await openLocalStore({ directory: scratch.path }, { host });
  // Or the tests above would pass whatever the server does.
  assert.ok(reopened.vdis.store.replayedEntries > 0);
  await reopened.close();
});

const mebibyte = 2 ** 20;

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadlineMs, "it did not come about in 20 s");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
