import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readTarFile, writeTar } from "../scripts/ustar.ts";
import { projectRoot } from "./support/readme.ts";
import { requireTool, runTool } from "./support/tools.ts";

/** What npm run demo promises. */
const demoMs = 20_000;

const scratch = mkdtempSync(join(tmpdir(), "kelpie-demo-test-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

function startDemo(): { child: ChildProcess; said: () => string; end: Promise<number | null> } {
  const child = spawn(process.execPath, [join(projectRoot, "scripts/demo.ts")], {
    env: { ...process.env, TMPDIR: scratch },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      said += chunk;
    });
  }
  const end = new Promise<number | null>((resolve) => child.on("close", resolve));
  return { child, said: () => said, end };
}

test("the demo shows what a rollback does, quickly, and leaves nothing behind", async () => {
  const startMs = performance.now();
  const { said, end } = startDemo();
  assert.equal(await end, 0, said());
  assert.ok(performance.now() - startMs < demoMs);
  assert.deepEqual(readdirSync(scratch), []);

  const [first] = readFileSync(join(projectRoot, "README.md"), "utf8").split("\n");
  const contents = [...said().matchAll(/README\.md on the disk: (.*)/g)].map(([, line]) => line);
  assert.deepEqual(contents, [first, "# Changed after snap1", "not there", first]);

  const drawings = [...said().matchAll(/^ {4}base.*(?:\n {4}.*)*/gm)].map(([drawing]) => drawing);
  assert.deepEqual(drawings, [
    "    base <-- snap1 <-- snap2 <-- demo (you are here)",
    `    base <-- snap1 <-- snap2
               ^
               |
      demo (you are here)`,
  ]);

  const steps = [...said().matchAll(/^ *\d+\.\d ms {2}(.*)$/gm)].map(([, what]) => what);
  for (const what of [
    "start",
    "create",
    "attach",
    "tar",
    "snap1",
    "snap2",
    "zeroed",
    "roll back",
  ]) {
    assert.ok(
      steps.some((step) => step?.includes(what)),
      `no step with a time says "${what}":\n${said()}`,
    );
  }
});

test("the demo that is interrupted cleans up and fails", async () => {
  const { child, said, end } = startDemo();
  await new Promise<void>((resolve) => child.stdout?.once("data", () => resolve()));
  child.kill("SIGINT");
  assert.notEqual(await end, 0, said());
  assert.deepEqual(readdirSync(scratch), []);
});

const long = `${"folder/".repeat(20)}file.txt`;
const files = [
  { path: "empty", content: Buffer.alloc(0) },
  { path: "a/text", content: Buffer.from("hello\n") },
  { path: long, content: Buffer.alloc(1025, 7) },
];

test("what the demo's tar writer writes its reader finds", async () => {
  const tar = writeTar(files);
  const read = async (offset: number, length: number) => tar.subarray(offset, offset + length);
  for (const { path, content } of files) {
    assert.deepEqual(await readTarFile(read, path), content, path);
  }
  assert.equal(await readTarFile(read, "a"), undefined);
  assert.throws(() => writeTar([{ path: "x".repeat(101), content: Buffer.alloc(0) }]), /too long/);
});

test("tar reads the demo's archives", { skip: requireTool("tar", "tar") }, async () => {
  const archive = join(scratch, "demo.tar");
  writeFileSync(archive, writeTar(files));
  assert.deepEqual((await runTool("tar", ["-tf", archive])).split("\n"), [
    "empty",
    "a/text",
    long,
    "",
  ]);
  const { stdout } = spawnSync("tar", ["-xOf", archive, long]);
  assert.deepEqual(stdout, files[2]?.content);
  rmSync(archive);
});
