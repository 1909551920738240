import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { exitCode } from "../../src/cli/exit-codes.ts";
import { FakeS3 } from "../support/fake-s3.ts";
import { projectRoot, readmeExample } from "../support/readme.ts";
import { requireTool } from "../support/tools.ts";
import { requireGuest } from "../vm/guests.ts";
import { SerialLine } from "../vm/serial-line.ts";

const readme = readFileSync(join(projectRoot, "README.md"), "utf8");
const noQemu = requireTool("qemu-system-x86_64", "qemu-system-x86");
const noQemuIo = requireTool("qemu-io", "qemu-utils");
const noQemuImg = requireTool("qemu-img", "qemu-utils");
const noNbdcopy = requireTool("nbdcopy", "libnbd-bin");
const noNbdinfo = requireTool("nbdinfo", "libnbd-bin");
const noGuest = noQemu || requireTool("mkfs.ext4", "e2fsprogs") || requireGuest();

/** A directory as the reader has it: the checkout's bin in the path, the server running. */
const directory = mkdtempSync(join(tmpdir(), "kelpie-readme-"));
const env: NodeJS.ProcessEnv = {
  ...process.env,
  PATH: `${join(directory, "bin")}${delimiter}${process.env.PATH}`,
};
delete env.KELPIE_STORE;

function example(name: string): string {
  const found = readmeExample(name);
  assert.ok(found !== undefined, `README.md has no example "${name}"`);
  return found;
}

/** The example's own may be somebody's. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Runs a script in the directory, as typed; says what it printed. */
function sh(script: string, input?: string): string {
  const { status, stdout, stderr } = spawnSync("bash", ["-euo", "pipefail", "-c", script], {
    cwd: directory,
    env,
    encoding: "utf8",
    input,
    timeout: 60_000,
  });
  assert.equal(status, 0, `exit ${status}:\n${script}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Without what a shell's command substitution would drop, and trailing blanks. */
function trimmed(text: string): string {
  return text.replace(/[ \n]+$/gm, "").trimEnd();
}

function compareBackup(tag: string): string {
  const snapshot = `nbd+unix:///disk1@${tag}?socket=kelpie-data/nbd.sock`;
  return `qemu-img compare -f raw -F raw backup.raw '${snapshot}'`;
}

let server: ChildProcess;

before(async () => {
  mkdirSync(join(directory, "bin"));
  symlinkSync(join(projectRoot, "bin/kelpie"), join(directory, "bin/kelpie"));
  const listen = ["--nbd", "unix:kelpie-data/nbd.sock", "--sheepdog", "off", "--http", "off"];
  server = spawn("kelpie", ["serve", ...listen], {
    cwd: directory,
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.once("close", () => reject(new Error("the server ended")));
    server.stdout?.once("data", () => resolve());
  });
});

after(async () => {
  const ended = new Promise((resolve) => server.once("close", resolve));
  server.kill("SIGTERM");
  await ended;
  rmSync(directory, { recursive: true, force: true });
});

describe("README.md, from top to bottom", () => {
  test("a line puts kelpie into the path", () => {
    const script = `cd '${projectRoot}'\n${example("path")}command -v kelpie`;
    assert.equal(sh(script), `${projectRoot}/bin/kelpie\n`);
  });

  test("a disk is made", () => {
    sh(example("create"));
    const [disk] = JSON.parse(sh("kelpie vdi list --json"));
    assert.equal(disk.name, "disk1");
    assert.equal(disk.sizeBytes, 10 * 2 ** 30);
  });

  test("QEMU's line for the disk opens it", { skip: noQemuIo }, () => {
    const blockdev = /-blockdev (\S+)/.exec(example("qemu"))?.[1];
    assert.match(sh(`qemu-io --image-opts -c 'read -P 0 0 1M' ${blockdev}`), /^read 1048576/m);
  });

  test("QEMU starts with it", { skip: noQemu }, () => {
    const command = example("qemu").trimEnd();
    const said = sh(`${command} -display none -S -monitor stdio`, "info block\nquit\n");
    assert.match(said, /disk1/);
  });

  test("an image of another format goes in", { skip: noQemuImg }, () => {
    sh(
      "qemu-img create -q -f qcow2 old.qcow2 64M && qemu-io -f qcow2 -c 'write -P 7 1M 1M' old.qcow2",
    );
    assert.match(sh(example("convert")), /^read 1048576/m);
  });

  test("a disk comes out", { skip: noNbdcopy || noQemuImg }, () => {
    sh(example("nbdcopy"));
    sh("qemu-img compare -f qcow2 -F raw old.qcow2 disk2.raw");
    const { blocks } = JSON.parse(sh(`stat --printf '{"blocks":%b}' disk2.raw`));
    assert.ok(blocks * 512 < 2 * 2 ** 20, "holes are holes");
  });

  test("a rollback brings back what a snapshot has, and the tree shows where the disk is", () => {
    assert.match(sh(example("rollback")), /first$/);
    const tree = sh("kelpie vdi tree disk1");
    assert.ok(trimmed(tree).startsWith(trimmed(example("tree"))), tree);
  });

  test("undelete undoes it", () => {
    const listed = sh(example("undelete"));
    assert.match(listed, /^disk1 .*undelete/m);
    assert.equal(sh("kelpie vdi read disk1 0 5"), "other");
  });

  test("a clone begins as the snapshot is", () => {
    assert.match(sh(example("clone")), /other$/);
  });

  test("a virtual machine is saved twice and goes back to the first", {
    skip: noGuest,
  }, async () => {
    symlinkSync(join(projectRoot, "examples"), join(directory, "examples"));
    sh(example("guest"));
    const serial = join(directory, "kelpie-data/vm/vm1/serial.sock");
    const line = await SerialLine.connect(serial);
    await line.expect(/guest ready[\s\S]*# /);
    await line[Symbol.asyncDispose]();
    const said = sh(example("vm"));
    assert.match(said, /saved snapshot 1 "vm-.*\n[\s\S]*loaded snapshot 1 "vm-.*\nID .*\n1 .*\n2 /);
    let answer = "";
    // A guest that is slow to answer has not been silent for long enough yet.
    for (let again = 0; again < 5 && !/^first/m.test(answer); again++) {
      answer = sh(example("vm-back"));
    }
    assert.match(answer, /^first first\r?$/m);
    const tree = sh("kelpie vdi tree root");
    assert.match(tree, /vm-\d+ <-- vm-[\d-]+\n +\^\n +\|\n +root \(you are here\)/);
    mkdirSync(join(directory, "node_modules"));
    symlinkSync(projectRoot, join(directory, "node_modules/kelpie"));
    writeFileSync(join(directory, "vm.ts"), example("library-vm"));
    writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
    assert.match(sh(`'${process.execPath}' vm.ts`), /'3 before-upgrade'/);
    sh("kelpie vm stop vm1 --force; kelpie vm delete vm1");
  });

  test("a full backup is the snapshot", { skip: noNbdcopy || noQemuImg }, () => {
    sh(example("backup"));
    sh(compareBackup("snap1"));
  });

  test("an incremental backup makes it the next snapshot", {
    skip: noNbdinfo || noNbdcopy || noQemuImg,
  }, () => {
    sh(example("incremental"));
    sh(compareBackup("snap2"));
    assert.match(sh(`! ${compareBackup("snap1")}`), /Content mismatch at offset 0/);
    assert.match(sh("kelpie vdi diff disk1 -F snap1 -s snap2"), /^ +0 +4096 +changed$/m);
  });

  test("the check finds nothing wrong", () => {
    assert.match(sh(example("check")), /no damage/);
  });

  test("certificates are made, and a server with them is looked at in TLS", {
    skip: noNbdinfo,
  }, async () => {
    const port = await freePort();
    const said = sh(example("tls").replaceAll("10810", String(port)));
    assert.match(said, /protocol: .*TLS/);
  });

  test("a store is in an object store", async () => {
    await using s3 = await FakeS3.start(0, { accessKey: "kelpie" });
    const script = example("s3").replace("http://127.0.0.1:7480", s3.endpoint);
    // Beside the object store, which is in this process.
    const child = spawn("bash", ["-euo", "pipefail", "-c", script], {
      cwd: directory,
      env: { ...env, XDG_STATE_HOME: join(directory, "state") },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let said = "";
    child.stdout.on("data", (chunk) => {
      said += chunk;
    });
    const [status] = await once(child, "close");
    assert.equal(status, 0, said);
    assert.match(said, /^s disk1 .*fresh$/m);
    assert.ok(s3.objects.has("farm/store"));
  });

  test("the library example says what it did", () => {
    mkdirSync(join(directory, "node_modules"), { recursive: true });
    rmSync(join(directory, "node_modules/kelpie"), { force: true });
    symlinkSync(projectRoot, join(directory, "node_modules/kelpie"));
    writeFileSync(join(directory, "example.ts"), example("library"));
    writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
    const said = sh(`'${process.execPath}' example.ts`);
    assert.deepEqual(said.split("\n"), [
      "4096 bytes changed at 0",
      "the disk says first",
      "its clone says other",
      "",
    ]);
  });
});

test("the exit codes are those of the program", () => {
  const codes = [...readme.matchAll(/^\| (\d+) \| /gm)].map(([, code]) => Number(code));
  assert.deepEqual(codes, Object.values(exitCode));
});

test("every file that README.md and ARCHITECTURE.md link to is there", () => {
  for (const name of ["README.md", "ARCHITECTURE.md"]) {
    const text = readFileSync(join(projectRoot, name), "utf8");
    const links = [...text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map(([, path]) => path ?? "");
    assert.ok(links.length > 3, name);
    for (const link of links) assert.ok(existsSync(join(projectRoot, link)), `${name}: ${link}`);
  }
});

test("every marked example is one that a test knows", () => {
  const known = readFileSync(import.meta.filename, "utf8");
  for (const [, name] of readme.matchAll(/<!-- example: (\S+) -->/g)) {
    assert.ok(known.includes(`example("${name}")`), `no test runs the example "${name}"`);
  }
});

test("every shell command of README.md is in an example, but for the ones that npm runs", () => {
  const unmarked = [...readme.matchAll(/(?<!<!-- example: \S+ -->\n)^```sh\n([^`]*)```/gm)];
  assert.deepEqual(
    unmarked.map(([, commands]) => commands),
    ["npm ci && npm start\n", "npm ci && npm test\n"],
  );
});
