import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

const checkout = join(import.meta.dirname, "../..");
const scratch = mkdtempSync(join(tmpdir(), "kelpie-launcher-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

/** A Node that says it is too old, as far as the launcher asks, until the launcher has gone on. */
const oldNode = join(scratch, "old.cjs");
writeFileSync(
  oldNode,
  `if (process.env.KELPIE_LIFELINE_FD === undefined) {
     const versions = { ...process.versions, node: "20.1.2" };
     Object.defineProperty(process, "versions", { value: versions });
     Object.defineProperty(process, "version", { value: "v20.1.2" });
   }`,
);

/** A command line that says what it was given, then does as its first argument tells it. */
const probe = `
  export async function main([action, ...rest]) {
    const say = (fields) => process.stdout.write(JSON.stringify(fields) + "\\n");
    if (action === "fail") return 3;
    if (action === "die") process.kill(process.pid, "SIGUSR2");
    const signals = [];
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, () => signals.push(name));
    say({ pid: process.pid, execPath: process.execPath, rest });
    if (action === "say") return 0;
    while (signals.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    await new Promise((resolve) => setTimeout(resolve, 300));
    say({ signals });
    return 0;
  }`;

/** A package as npm installs it, with the launcher of the checkout and the probe behind it. */
function makePackage(name: string, bundledNode: boolean): string {
  const root = join(scratch, name);
  mkdirSync(join(root, "dist/cli"), { recursive: true });
  cpSync(join(checkout, "bin"), join(root, "bin"), { recursive: true });
  writeFileSync(join(root, "package.json"), '{ "name": "kelpie", "type": "module" }');
  writeFileSync(join(root, "dist/cli/main.js"), probe);
  if (bundledNode) {
    const nodePackage = join(root, `node_modules/node-linux-${process.arch}`);
    mkdirSync(join(nodePackage, "bin"), { recursive: true });
    writeFileSync(join(nodePackage, "package.json"), '{ "name": "node" }');
    symlinkSync(process.execPath, join(nodePackage, "bin/node"));
  }
  return join(root, "bin/kelpie");
}

const launcher = makePackage("with-node", true);
const launcherAlone = makePackage("without-node", false);
const viaOldNode = ["--require", oldNode, launcher];

interface Run {
  child: ChildProcess;
  /** What it wrote to stdout, one object a line, as far as it got. */
  said: Record<string, unknown>[];
  stderr: string;
  end: Promise<{ exitCode: number | null; signal: string | null }>;
}

function start(command: string, args: string[], path = process.env.PATH): Run {
  const env = { ...process.env, PATH: path };
  const child = spawn(command, args, { env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  const run: Run = {
    child,
    said: [],
    stderr: "",
    end: new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (exitCode, signal) => resolve({ exitCode, signal }));
    }),
  };
  child.stdout?.on("data", (chunk) => {
    text += chunk;
    const lines = text.split("\n").slice(0, -1);
    run.said = lines.map((line) => JSON.parse(line));
  });
  child.stderr?.on("data", (chunk) => {
    run.stderr += chunk;
  });
  return run;
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    if (condition()) return;
    await sleep(20);
  }
  assert.fail(`waited in vain: ${what}`);
}

test("the checkout runs its sources, by whatever name it is called", async () => {
  const { version } = JSON.parse(readFileSync(join(checkout, "package.json"), "utf8"));
  const link = join(scratch, "link");
  symlinkSync(join(checkout, "bin/kelpie"), link);
  for (const command of [join(checkout, "bin/kelpie"), link]) {
    const child = spawn(command, ["--version"], { stdio: ["ignore", "pipe", "inherit"] });
    assert.equal(String(await child.stdout.toArray()), `kelpie ${version}\n`);
  }
});

test("the Node that npm installed takes the place of the launcher", async () => {
  const elsewhere = join(scratch, "bin-with-broken-node");
  mkdirSync(elsewhere);
  writeFileSync(join(elsewhere, "node"), "#!/bin/sh\nexit 99\n", { mode: 0o755 });
  const run = start(launcher, ["say", "two words", "", "*"], `${elsewhere}:${process.env.PATH}`);
  assert.deepEqual(await run.end, { exitCode: 0, signal: null });
  assert.equal(run.said[0]?.pid, run.child.pid);
  assert.deepEqual(run.said[0]?.rest, ["two words", "", "*"]);
});

test("without it, the Node in the PATH is taken", async () => {
  const run = start(launcherAlone, ["say"]);
  assert.deepEqual(await run.end, { exitCode: 0, signal: null });
  assert.equal(run.said[0]?.pid, run.child.pid);
});

test("an old Node hands over to the newer one, arguments and exit code included", async () => {
  const run = start(process.execPath, [...viaOldNode, "say", "two words", ""]);
  assert.deepEqual(await run.end, { exitCode: 0, signal: null });
  assert.notEqual(run.said[0]?.pid, run.child.pid);
  assert.deepEqual(run.said[0]?.rest, ["two words", ""]);
  const failing = start(process.execPath, [...viaOldNode, "fail"]);
  assert.deepEqual(await failing.end, { exitCode: 3, signal: null });
});

test("an old Node dies of the signal that the newer one died of", async () => {
  const run = start(process.execPath, [...viaOldNode, "die"]);
  assert.deepEqual(await run.end, { exitCode: null, signal: "SIGUSR2" });
});

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  test(`an old Node passes ${signal} on once, from kill and from a terminal`, async () => {
    // A terminal sends to the whole process group.
    for (const target of ["process", "group"]) {
      const run = start(process.execPath, [...viaOldNode, "wait"]);
      await until(() => run.said.length === 1, "the probe to start");
      const { pid = 0 } = run.child;
      process.kill(target === "group" ? -pid : pid, signal);
      assert.deepEqual(await run.end, { exitCode: 0, signal: null });
      assert.deepEqual(run.said[1], { signals: [signal] });
    }
  });
}

test("when an old Node is killed, the newer one dies with it", async () => {
  const run = start(process.execPath, [...viaOldNode, "wait"]);
  await until(() => run.said.length === 1, "the probe to start");
  process.kill(run.child.pid ?? 0, "SIGKILL");
  // "close" comes when nobody holds the pipes any more, so when both are dead.
  assert.deepEqual(await run.end, { exitCode: null, signal: "SIGKILL" });
  const status = `/proc/${run.said[0]?.pid}/status`;
  const isDead = () => !existsSync(status) || /State:\s+Z/.test(readFileSync(status, "utf8"));
  await until(isDead, "the newer one to die");
});

test("an old Node without a newer one says what to install", async () => {
  const run = start(process.execPath, ["--require", oldNode, launcherAlone, "say"]);
  assert.deepEqual(await run.end, { exitCode: 1, signal: null });
  assert.match(run.stderr, /needs Node\.js 24 or newer; this is v20\.1\.2 \(/);
  assert.match(run.stderr, new RegExp(`npm install node-linux-${process.arch}@24`));

  mkdirSync(join(launcherAlone, "../../src"));
  const inCheckout = start(process.execPath, ["--require", oldNode, launcherAlone, "say"]);
  assert.deepEqual(await inCheckout.end, { exitCode: 1, signal: null });
  assert.match(inCheckout.stderr, /Run "npm ci" in /);
});
