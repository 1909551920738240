import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { projectRoot } from "../support/readme.ts";
import { requireTool } from "../support/tools.ts";

const launcher = join(projectRoot, "bin/kelpie");
const installedAt = "/usr/local/bin/kelpie";
const unit = readFileSync(join(projectRoot, "docs/systemd/kelpie.service"), "utf8");
const skip = requireTool("systemd-analyze", "systemd");

const scratch = mkdtempSync(join(tmpdir(), "kelpie-unit-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

/** systemd-analyze on the unit, or on what was made of it. */
function analyze(args: string[], text = unit): { exitCode: number | null; said: string } {
  const path = join(scratch, "kelpie.service");
  writeFileSync(path, text.replace(installedAt, launcher));
  const { status, stdout, stderr } = spawnSync("systemd-analyze", [...args, path], {
    encoding: "utf8",
  });
  return { exitCode: status, said: stdout + stderr };
}

test("systemd understands every line of the unit", { skip }, () => {
  assert.deepEqual(analyze(["verify"]), { exitCode: 0, said: "" });
  // What it does not understand it only warns about.
  const wrong = analyze(["verify"], unit.replace("RestartSec=", "RestartSeconds="));
  assert.match(wrong.said, /RestartSeconds/);
});

test("the unit leaves little exposed", { skip }, () => {
  // In tenths; below 2.0 systemd's verdict is "OK", and a unit without a sandbox has 9.6.
  const options = ["security", "--offline=yes", "--no-pager", "--threshold=20"];
  assert.equal(analyze(options).exitCode, 0);
  assert.notEqual(analyze(options, unit.replace(/^(Protect|System|Cap).*$/gm, "")).exitCode, 0);
});

test("the unit's command line starts a server that SIGTERM stops in good order", async () => {
  const command = /^ExecStart=(.+)$/m.exec(unit)?.[1] ?? "";
  const store = join(scratch, "state");
  const runtime = join(scratch, "run");
  mkdirSync(store, { mode: 0o700 });
  mkdirSync(runtime);
  const args = command
    .replaceAll(/\$\{STATE_DIRECTORY\}/g, store)
    .replaceAll(/\$\{RUNTIME_DIRECTORY\}/g, runtime)
    .replace(":10809", ":0")
    .split(" ");
  assert.equal(args.shift(), installedAt);

  const server = spawn(launcher, args, { cwd: scratch, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [server.stdout, server.stderr]) {
    stream.on("data", (chunk) => {
      said += chunk;
    });
  }
  const end = new Promise<unknown[]>((resolve) => {
    server.on("close", (...results) => resolve(results));
  });
  const socket = join(runtime, "nbd.sock");
  for (let attempt = 0; !existsSync(socket); attempt += 1) {
    assert.ok(attempt < 500 && server.exitCode === null, `it does not listen:\n${said}`);
    await sleep(20);
  }
  server.kill("SIGTERM");
  assert.deepEqual(await end, [0, null], said);
  assert.ok(!existsSync(socket), "the socket is left behind");
});

test("the guide and the unit speak of the same paths", () => {
  const guide = readFileSync(join(projectRoot, "docs/systemd.md"), "utf8");
  assert.match(unit, /^StateDirectory=kelpie$/m);
  assert.match(unit, /^RuntimeDirectory=kelpie$/m);
  for (const path of ["/var/lib/kelpie", "/run/kelpie/nbd.sock", installedAt, "127.0.0.1:10809"]) {
    assert.ok(guide.includes(path), path);
  }
  assert.ok(unit.includes(`ExecStart=${installedAt} serve `));
});
