import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runTestFile, runTestGroup, type TestFileResult } from "../../scripts/test-file.ts";
import { describeFile, summarize } from "../../scripts/test-summary.ts";

const folder = mkdtempSync(join(tmpdir(), "kelpie-runner-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Far more than a file that ends needs, even with the machine busy. */
const patientMs = 60_000;

function run(name: string, body: string, limitMs = patientMs): Promise<TestFileResult> {
  const path = join(folder, `${name}.test.ts`);
  writeFileSync(path, `import { describe, test } from "node:test";\n${body}\n`);
  const { signal } = new AbortController();
  return runTestFile(path, { limitMs, nodeOptions: [], signal });
}

test("passes, failures, skips and todos are counted, suites are not", async () => {
  const result = await run(
    "mixed",
    `describe("suite", () => {
       test("good", () => {});
       test("bad", () => { console.log("a clue"); throw new Error("on purpose"); });
     });
     test("skipped", { skip: "nbdinfo is not installed (Debian package libnbd-bin)" }, () => {});
     test("later", { todo: true }, () => { throw new Error("not yet"); });
     test("outer", async (t) => { await t.test("inner", () => {}); });`,
  );
  assert.equal(result.complaint, undefined);
  const { text, exitCode } = summarize([result], 1234);
  assert.equal(exitCode, 1);
  assert.match(text, /\n3 passed, 1 failed, 1 skipped$/);
  assert.match(text, /ℹ tests 6\nℹ suites 1\nℹ pass 3\nℹ fail 1\n/);
  assert.match(text, /nbdinfo is not installed .*\n.*mixed\.test\.ts: skipped/);
  assert.match(text, /apt-get install --no-install-recommends libnbd-bin/);
  assert.match(text, /Failed:\n.*mixed\.test\.ts: bad\n/);
  assert.match(describeFile(result), /✖ bad\n.*on purpose[\s\S]*a clue/);
});

test("a run in which everything passes ends with 0", async () => {
  const result = await run("good", 'test("good", () => {});');
  const { text, exitCode } = summarize([result], 1);
  assert.equal(exitCode, 0);
  assert.match(text, /\n1 passed, 0 failed, 0 skipped$/);
  assert.match(describeFile(result), /^✔ .*good\.test\.ts \(1 tests, [\d.]+ s\)$/);
});

test("files of one process are counted and named together", async () => {
  const paths = ["one", "two"].map((name) => {
    const path = join(folder, `${name}.test.ts`);
    writeFileSync(
      path,
      `import { test } from "node:test";
       test("good ${name}", () => {});
       test("bad ${name}", () => { throw new Error("${name} on purpose"); });`,
    );
    return path;
  });
  const { signal } = new AbortController();
  const result = await runTestGroup(paths, { limitMs: patientMs, nodeOptions: [], signal });
  const { text } = summarize([result], 1);
  assert.match(text, /\{one,two\}\.test\.ts: bad one\n.*\{one,two\}\.test\.ts: bad two\n/);
  assert.match(text, /\n2 passed, 2 failed, 0 skipped$/);
  assert.match(
    describeFile(result),
    /✖ bad one\n.*one on purpose[\s\S]*✖ bad two\n.*two on purpose/,
  );
});

test("a file that does not load is a failure", async () => {
  const result = await run("broken", 'import "./missing.ts";');
  assert.match(result.complaint ?? "", /exit code 1/);
  assert.match(describeFile(result), /missing\.ts/);
  assert.equal(summarize([result], 1).exitCode, 1);
});

test("a file without tests is a failure", async () => {
  const result = await run("empty", "");
  assert.equal(result.complaint, "has no tests");
  assert.match(summarize([result], 1).text, /0 passed, 1 failed, 0 skipped$/);
});

test("a file that dies of a signal is a failure", async () => {
  const result = await run(
    "dies",
    'test("dies", () => { process.kill(process.pid, "SIGKILL"); });',
  );
  assert.equal(result.complaint, "killed by SIGKILL");
});

test("a file that hangs is killed with what it started, and the test is named", async () => {
  const pidPath = join(folder, "pid");
  const result = await run(
    "hangs",
    `import { spawn } from "node:child_process";
     import { writeFileSync } from "node:fs";
     process.on("SIGTERM", () => {});
     test("waits for ever", async () => {
       const child = spawn("sleep", ["1000"]);
       writeFileSync(${JSON.stringify(pidPath)}, String(child.pid));
       await new Promise(() => {});
     });`,
    2000,
  );
  assert.match(result.complaint ?? "", /killed after 2 s, in "waits for ever"/);
  assert.ok(await isGone(Number(readFileSync(pidPath, "utf8"))), "its child lives on");
});

test("a file that keeps itself alive after its last test says so", async () => {
  const body = 'test("good", () => {}); setInterval(() => {}, 1000);';
  const result = await run("lingers", body, 2000);
  assert.match(result.complaint ?? "", /1 tests had ended, something keeps the process alive/);
});

async function isGone(pid: number): Promise<boolean> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    // A killed orphan that nobody has waited for yet is a zombie.
    const status = `/proc/${pid}/status`;
    if (!existsSync(status) || /State:\s+Z/.test(readFileSync(status, "utf8"))) return true;
    await sleep(20);
  }
  return false;
}
