import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, runTool } from "../support/tools.ts";
import { bootGuest } from "./boot-guest.ts";
import { SerialLine } from "./serial-line.ts";

const noAssembler = requireTool("as", "binutils");
const noQemu = requireTool("qemu-system-x86_64", "qemu-system-x86");

test("the guest's bytes are those that its source makes", { skip: noAssembler }, async () => {
  await using scratch = await Scratch.create();
  const [object, binary] = [scratch.file("guest.o"), scratch.file("guest.bin")];
  const source = join(import.meta.dirname, "boot-guest.s");
  await runTool("as", ["--32", "-o", object, source]);
  const flat = ["-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary"];
  await runTool("ld", [...flat, "-o", binary, object]);
  assert.deepEqual(readFileSync(binary), bootGuest);
});

test("it boots from a Kelpie disk and keeps a letter on each", { skip: noQemu }, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await server.ok("vdi", "create", "d0", "1M");
  await server.ok("vdi", "create", "d1", "1M");
  const disk = await server.connect("d0");
  await disk.write([bootGuest], 0);
  await disk.close();
  const serial = scratch.file("serial");
  const drive = (name: string) => {
    const socket = `server.type=unix,server.path=${server.store}/nbd.sock`;
    const node = `driver=nbd,node-name=${name},export=${name},${socket}`;
    return ["-blockdev", node, "-device", `virtio-blk-pci,drive=${name}`];
  };
  const machine = ["-display", "none", "-nodefaults", "-serial", `unix:${serial},server=on`];
  const running = runTool("qemu-system-x86_64", [
    ...["-accel", "tcg", "-m", "64", "-no-reboot", ...machine],
    ...[...drive("d0"), ...drive("d1"), "-monitor", `unix:${serial}.mon,server=on,wait=off`],
  ]);
  // QEMU waits for the serial line, so nothing is missed of what the guest says.
  await using line = await SerialLine.connect(serial);
  await line.expect(/guest ready\n/);
  assert.equal(await line.ask("sA"), "ok");
  assert.match(await line.ask("?"), /^c=[0-9a-f]{8} v=A d=AA$/);
  await line.ask("l");
  assert.match(await line.ask("?"), /v=A/);
  await line.ask("L");
  assert.equal(await line.ask("v"), "good");
  await using monitor = await SerialLine.connect(`${serial}.mon`);
  monitor.send("quit\n");
  await running;
});
