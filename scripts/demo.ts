/**
 * npm run demo: rollback, in some seconds and with nothing else installed. Starts a server on a scratch
 * store, attaches to it over NBD, writes a tar of this project's sources, changes it between two
 * snapshots, and goes back to the first while attached.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, sep } from "node:path";
import { drawTree } from "../src/cli/tree-drawing.ts";
import type { Control } from "../src/control/calls.ts";
import { treesOf } from "../src/control/tree.ts";
import { createNodeHost } from "../src/host/node/node-host.ts";
import { connectControl } from "../src/http/control-client.ts";
import { connectNbd, type NbdClient } from "../src/nbd/client.ts";
import { readTarFile, type TarFile, writeTar } from "./ustar.ts";

const root = join(import.meta.dirname, "..");
const sources = ["README.md", "package.json", "bin", "src", "scripts"];
const watched = "README.md";
const mebibyte = 2 ** 20;
const startMs = performance.now();

const host = createNodeHost({ logLevel: "error" });
const scratch = mkdtempSync(join(tmpdir(), "kelpie-demo-"));
const server = spawn(
  process.execPath,
  // A store, a socket and nothing that another server on this machine could be in the way of.
  [
    join(root, "bin/kelpie"),
    "serve",
    "--store",
    scratch,
    "--nbd",
    `unix:${scratch}/nbd.sock`,
    "--sheepdog",
    "off",
    "--http",
    "off",
    "--json",
  ],
  { stdio: ["ignore", "pipe", "inherit"] },
);
const ended = new Promise<void>((resolve) => server.once("close", () => resolve()));
// Whatever is under way fails then, and what is below cleans up.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => server.kill());

try {
  const control = await step("start a server on a scratch store", () => started(server));
  await demo(control);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  server.kill();
  await ended;
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`\nAll of it took ${((performance.now() - startMs) / 1000).toFixed(1)} s.`);

async function demo(control: Control): Promise<void> {
  const names = ["demo"];
  const first = writeTar(projectFiles());
  await step("create a disk of 64 MiB, and snapshot it while it is empty: base", async () => {
    await control.call("vdi.create", { name: "demo", sizeBytes: 64 * mebibyte });
    await control.call("vdi.snapshot", { names, tag: "base" });
  });
  const disk = await step("attach it over NBD", () => attach("demo"));
  const megabytes = (first.length / mebibyte).toFixed(1);
  await step(`write a tar of these sources to it, ${megabytes} MiB`, () => write(disk, first));
  await says(disk);
  await step("snapshot: snap1", () => control.call("vdi.snapshot", { names, tag: "snap1" }));

  const second = writeTar(changed(projectFiles(), "# Changed after snap1"));
  await step("write another version of the tar over it", () => write(disk, second));
  await says(disk);
  await step("snapshot: snap2", () => control.call("vdi.snapshot", { names, tag: "snap2" }));

  await step("then an accident: the whole disk is zeroed", async () =>
    disk.zero(0, disk.sizeBytes),
  );
  await says(disk);
  await drawn(control, "Before the rollback");

  await step("roll back to snap1, with the disk attached", () =>
    control.call("vdi.rollback", { names, snapshot: "snap1", live: true }),
  );
  await says(disk);
  await drawn(control, "After it: no copy of snap2 was made, and none was asked for");

  await step("compare every byte of the disk, and of snap2, with what was written", async () => {
    const snapshot = await attach("demo@snap2");
    await mustHold(disk, first, "the disk");
    await mustHold(snapshot, second, "snap2");
    await snapshot.close();
  });
  await disk.close();
}

/** Runs one step and prints how long it took. */
async function step<T>(what: string, action: () => Promise<T>): Promise<T> {
  const beganMs = performance.now();
  const result = await action();
  const ms = (performance.now() - beganMs).toFixed(1);
  console.log(`${ms.padStart(8)} ms  ${what}`);
  return result;
}

/** The control functions of a server, when it listens. */
async function started(child: ChildProcess): Promise<Control> {
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => reject(new Error("the server ended before it listened")));
    child.stdout?.once("data", () => resolve());
  });
  const running = await connectControl(join(scratch, "control.sock"));
  if (running === undefined) throw new Error("the server does not answer");
  return running.control;
}

function attach(exportName: string): Promise<NbdClient> {
  return connectNbd(
    { address: { kind: "unix", path: join(scratch, "nbd.sock") }, exportName },
    host,
  );
}

async function write(disk: NbdClient, bytes: Buffer): Promise<void> {
  await disk.write([bytes], 0);
  await disk.flush();
}

/** Prints what one file in the tar on the disk begins with. */
async function says(disk: NbdClient): Promise<void> {
  const content = await readTarFile((offset, length) => read(disk, offset, length), watched);
  const line = content?.toString().split("\n", 1)[0];
  console.log(`             ${watched} on the disk: ${line ?? "not there"}`);
}

async function drawn(control: Control, title: string): Promise<void> {
  const lines = treesOf(await control.call("vdi.list", {})).flatMap((family) =>
    drawTree(family, 80),
  );
  console.log(`\n${title}:\n\n${lines.map((line) => `    ${line}\n`).join("")}`);
}

async function mustHold(device: NbdClient, expected: Buffer, what: string): Promise<void> {
  const found = await read(device, 0, device.sizeBytes);
  const whole = Buffer.alloc(found.length);
  whole.set(expected);
  if (!found.equals(whole)) {
    throw new Error(`${what} does not hold what was written to it`);
  }
}

async function read(device: NbdClient, offset: number, length: number): Promise<Buffer> {
  const target = Buffer.alloc(length);
  await device.read(target, offset);
  return target;
}

/** Files of the checkout that are sources, in a fixed order. */
function projectFiles(): TarFile[] {
  const paths = sources.flatMap((source) => pathsBelow(join(root, source)));
  return paths.sort().map((path) => ({
    path: relative(root, path).split(sep).join("/"),
    content: readFileSync(path),
  }));
}

function pathsBelow(path: string): string[] {
  try {
    return readdirSync(path).flatMap((name) => pathsBelow(join(path, name)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return [path];
    throw error;
  }
}

function changed(files: TarFile[], firstLine: string): TarFile[] {
  return files.map((file) =>
    file.path === watched
      ? { ...file, content: Buffer.from(file.content.toString().replace(/^.*/, () => firstLine)) }
      : file,
  );
}
