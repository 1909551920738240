import assert from "node:assert/strict";
import { open, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { VdiEntry } from "../../src/control/calls.ts";
import { runHere, Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, runTool } from "../support/tools.ts";

const mebibyte = 2 ** 20;
const imageBytes = 128 * mebibyte;
const dataBytes = 3 * mebibyte + 512;

/** 128 MiB, most of it holes; it has data at both ends and zeros that are no hole in the file. */
async function sparseImage(path: string): Promise<void> {
  const handle = await open(path, "w");
  await handle.truncate(imageBytes);
  await handle.write(Buffer.alloc(mebibyte, "kelpie"), 0, mebibyte, 0);
  await handle.write(Buffer.alloc(mebibyte), 0, mebibyte, 8 * mebibyte);
  await handle.write(Buffer.alloc(mebibyte, 2), 0, mebibyte, 40 * mebibyte);
  await handle.write(Buffer.alloc(512, 3), 0, 512, 60 * mebibyte + 1024);
  await handle.write(Buffer.alloc(mebibyte, 4), 0, mebibyte, imageBytes - mebibyte);
  await handle.close();
}

for (const place of ["with a server", "without a server"] as const) {
  test(`an image goes in and comes out, holes and all, ${place}`, async () => {
    await using scratch = await Scratch.create();
    const store = scratch.file("store");
    await using server = place === "with a server" ? await ServerProcess.start(store) : undefined;
    const [image, copy] = [scratch.file("image.raw"), scratch.file("copy.raw")];
    await sparseImage(image);
    const cli = (...argv: string[]) => server?.cli(...argv) ?? runHere(store, ...argv);
    const imported = await cli("vdi", "import", image, "disk", "--json");
    assert.equal(imported.exitCode, 0, imported.stderr);
    const entry = JSON.parse(imported.stdout) as VdiEntry;
    assert.equal(entry.sizeBytes, imageBytes);
    // The 512 bytes take a block of their own.
    assert.equal(entry.mappedBytes, dataBytes - 512 + 4096);

    const exported = await cli("vdi", "export", "disk", copy);
    assert.equal(exported.exitCode, 0, exported.stderr);
    await runTool("cmp", [image, copy]);
    const { blocks } = await stat(copy);
    assert.ok(blocks * 512 < 4 * mebibyte, `the copy takes ${blocks * 512} bytes`);
    assert.deepEqual((await readdir(scratch.path)).sort(), ["copy.raw", "image.raw", "store"]);

    const again = await cli("vdi", "export", "disk", copy);
    assert.equal(again.exitCode, 3);
    assert.match(again.stderr, /copy\.raw.*there already/);
    const taken = await cli("vdi", "import", image, "disk");
    assert.equal(taken.exitCode, 3);
    assert.match(taken.stderr, /"disk"/);
  });
}

test("what one command imports another can pipe on", async () => {
  await using scratch = await Scratch.create();
  const [image, copy] = [scratch.file("image.raw"), scratch.file("copy.raw")];
  await sparseImage(image);
  const line = `"$0" "$1" vdi import - disk < ${image} && "$0" "$1" vdi export disk - > ${copy}`;
  const kelpie = join(import.meta.dirname, "../../bin/kelpie");
  await runTool("env", [
    `KELPIE_STORE=${scratch.file("store")}`,
    ...["sh", "-c", line, process.execPath, kelpie],
  ]);
  await runTool("cmp", [image, copy]);
});

test("a snapshot is exported as it was", async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  const [image, copy] = [scratch.file("image.raw"), scratch.file("copy.raw")];
  await sparseImage(image);
  await server.ok("vdi", "import", image, "disk");
  await server.ok("vdi", "snapshot", "disk", "-s", "then");
  const client = await server.connect("disk");
  await client.write([Buffer.alloc(mebibyte, 9)], 0);
  await client.trim(40 * mebibyte, mebibyte);
  await client.close();
  await server.ok("vdi", "export", "disk@then", copy);
  await runTool("cmp", [image, copy]);
});

test("images in other formats are refused with the command that brings them in, and it does", {
  skip: requireTool("qemu-img", "qemu-utils"),
}, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  const raw = scratch.file("image.raw");
  await writeFile(raw, Buffer.alloc(mebibyte, "boot"));
  for (const format of ["qcow2", "vmdk", "vhdx", "vdi"]) {
    const image = scratch.file(`image.${format}`);
    await runTool("qemu-img", ["convert", "-f", "raw", "-O", format, raw, image]);
    const refused = await server.cli("vdi", "import", image, "disk");
    assert.equal(refused.exitCode, 64, format);
    assert.match(refused.stderr, new RegExp(format, "i"));
    assert.match(refused.stderr, /--raw/);
    assert.match(refused.stderr, /qemu-img convert/);
    assert.equal((await server.cli("vdi", "info", "disk")).exitCode, 5);
    await server.ok("vdi", "import", "--raw", image, `as-it-is-${format}`);
  }

  const refused = await server.cli("vdi", "import", scratch.file("image.qcow2"), "disk");
  const [create, convert] = refused.stderr.split("\n").slice(1);
  assert.match(create ?? "", /^kelpie vdi create disk 1M$/);
  assert.match(convert ?? "", /^qemu-img convert -n -O raw /);
  await server.ok(...(create ?? "").split(" ").slice(1));
  await runTool("sh", ["-c", convert ?? "false"]);
  await runTool("qemu-img", ["compare", "-f", "raw", "-F", "raw", raw, server.uri("disk")]);
});
