import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { VdiEntry } from "../../src/control/calls.ts";
import { runHere, Scratch, ServerProcess } from "../support/server-process.ts";

const program = join(import.meta.dirname, "../../bin/kelpie");
const mebibyte = 2 ** 20;

for (const place of ["with a server", "without a server"] as const) {
  for (const source of ["a file", "a stream"] as const) {
    test(`an import of ${source} that is interrupted leaves no disk, ${place}`, async () => {
      await using scratch = await Scratch.create();
      const store = scratch.file("store");
      await using server = place === "with a server" ? await ServerProcess.start(store) : undefined;
      const image = scratch.file("image.raw");
      // So large that it is still being read, and without data that this test would have to wait for.
      await writeFile(image, Buffer.alloc(mebibyte, 1));
      await truncate(image, 2 ** 40);
      const { child, said, ended } = startImport(store, source === "a file" ? image : "-");
      if (source === "a stream") child.stdin?.write(Buffer.alloc(8 * mebibyte, 1));
      await (server === undefined ? said : untilThere(server));
      await sleep(500); // somewhere in the middle
      assert.equal(child.exitCode, null, "it is still at it");
      // As "timeout" does it: once for the process, once for its group.
      child.kill("SIGTERM");
      child.kill("SIGTERM");
      assert.deepEqual(await ended, { exitCode: 130, stderr: expectedStderr(store, server) });
      const listed = await (server?.cli("vdi", "list", "--json") ??
        runHere(store, "vdi", "list", "--json"));
      assert.deepEqual(JSON.parse(listed.stdout), []);
    });
  }
}

test("a stream's disk is never much larger than what has arrived", async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  const { child, ended } = startImport(server.store, "-");
  for (let count = 0; count < 100; count++) child.stdin?.write(Buffer.alloc(mebibyte));
  await untilThere(server);
  let [entry] = (await server.json("vdi", "list", "disk")) as VdiEntry[];
  assert.ok(entry !== undefined && entry.sizeBytes <= 256 * mebibyte, `${entry?.sizeBytes}`);
  child.stdin?.end("end");
  assert.equal((await ended).exitCode, 0);
  [entry] = (await server.json("vdi", "list", "disk")) as VdiEntry[];
  assert.equal(entry?.sizeBytes, 100 * mebibyte + 512);
  assert.equal(await server.ok("vdi", "read", "disk", "100M", "3"), "end");
});

interface Import {
  child: ChildProcess;
  /** Its first words: without a server, that the store is made. */
  said: Promise<unknown>;
  ended: Promise<{ exitCode: number | null; stderr: string }>;
}

function startImport(store: string, file: string): Import {
  const argv = [program, "vdi", "import", file, "disk", "--store", store];
  const child = spawn(process.execPath, argv, { stdio: ["pipe", "ignore", "pipe"] });
  // The pipe breaks when the command ends before its input does.
  child.stdin?.on("error", () => {});
  let stderr = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = once(child, "close").then(([exitCode]) => ({ exitCode, stderr }));
  const said = child.stderr === null ? ended : once(child.stderr, "data");
  return { child, said, ended };
}

function expectedStderr(store: string, server: ServerProcess | undefined): string {
  const made = server === undefined ? `kelpie: made a new store in ${store}\n` : "";
  return `${made}kelpie: interrupted\n`;
}

async function untilThere(server: ServerProcess): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if ((await server.cli("vdi", "info", "disk")).exitCode === 0) return;
    await sleep(50);
  }
  assert.fail("the disk did not appear");
}
