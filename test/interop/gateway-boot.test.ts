import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import type { VdiEntry } from "../../src/control/calls.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, runTool } from "../support/tools.ts";
import { bootArguments, makeBootDisks } from "../vm/guests.ts";
import { SerialLine } from "../vm/serial-line.ts";

const skip = requireTool("qemu-system-x86_64", "qemu-system-x86");

const program = join(import.meta.dirname, "../../bin/kelpie");

/** Ended with the test. Nothing that it says is awaited. */
class Running implements AsyncDisposable {
  readonly child: ChildProcess;

  constructor(command: string, args: readonly string[]) {
    this.child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { exitCode, signalCode } = this.child;
    if (exitCode !== null || signalCode !== null) return;
    this.child.kill("SIGKILL");
    await once(this.child, "close");
  }
}

test("a QEMU of today boots from a disk of a cluster, and the disk is rolled back under it", {
  skip,
}, async () => {
  await using scratch = await Scratch.create();
  await using cluster = await ServerProcess.start(scratch.file("cluster"));
  await makeBootDisks(cluster, "old");
  const store = `sheepdog://${cluster.sheepdog}`;
  const socket = scratch.file("nbd.sock");
  // There the commands find the gateway.
  const command = [`XDG_CACHE_HOME=${scratch.path}`, process.execPath, program, "--store", store];
  const kelpie = (...args: string[]) => runTool("env", [...command, ...args]);
  await using gateway = new Running("env", [...command, "serve", "--nbd", `unix:${socket}`]);
  assert.ok(gateway.child.stdout);
  await once(gateway.child.stdout, "data"); // It says where it listens.

  const serial = scratch.file("serial.sock");
  await using _qemu = new Running("qemu-system-x86_64", [
    ...[...bootArguments, "-m", "64M", "-display", "none"],
    ...["-drive", `file=nbd+unix:///old?socket=${socket},format=raw,if=virtio`],
    ...["-serial", `unix:${serial},server=on,wait=off`],
  ]);
  await using line = await SerialLine.connect(serial);
  /** What the guest has in memory, and reads from its disk. */
  const letters = async (): Promise<string> => {
    line.send("?");
    const said = await line.expect(/c=\S+ v=. d=.*\n/);
    return said.replace(/^[\s\S]*v=(.) d=(.*)\n$/, "$1$2");
  };
  const keep = async (letter: string): Promise<void> => {
    line.send(`s${letter}`);
    await line.expect(/ok\n/);
  };
  while ((await line.expectSoon(/guest ready\n/, 500)) === undefined) line.send("?");

  await keep("A");
  await kelpie("vdi", "snapshot", "old", "-s", "one");
  await keep("B");
  await kelpie("vdi", "snapshot", "old", "-s", "two");
  await keep("C");
  assert.equal(await letters(), "CC");
  await kelpie("vdi", "rollback", "old", "-s", "one", "--live");
  assert.equal(await letters(), "CA", "its disk is what it was, under a memory that goes on");
  await keep("D");
  assert.equal(await letters(), "DD");
  const list = (await cluster.json("vdi", "list", "old")) as VdiEntry[];
  const [one, two, working] = list;
  assert.deepEqual(
    list.map(({ kind, tag }) => [kind, tag]),
    [
      ["snapshot", "one"],
      ["snapshot", "two"],
      ["working", ""],
    ],
  );
  assert.deepEqual([two?.parent, working?.parent], [one?.point, one?.point]);
});
