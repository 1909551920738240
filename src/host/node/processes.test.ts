import assert from "node:assert/strict";
import { test } from "node:test";
import { isKelpieError } from "../../base/errors.ts";
import { createNodeProcesses } from "./processes.ts";

const processes = createNodeProcesses();

test("a program is run to its end, in a directory, with what it said", async () => {
  const end = await processes.run("sh", ["-c", "pwd; echo no >&2; exit 3"], { directory: "/" });
  assert.deepEqual(end, { exitCode: 3, stdout: "/\n", stderr: "no\n" });
  const killed = await processes.run("sh", ["-c", "kill -9 $$"]);
  assert.equal(killed.exitCode, undefined);
});

test("what goes on in the background is not waited for when it has let go of the output", async () => {
  const end = await processes.run("sh", ["-c", "sleep 60 >/dev/null 2>&1 & echo $!"]);
  process.kill(Number(end.stdout));
  assert.equal(end.exitCode, 0);
});

test("of what a program says only the beginning is kept", async () => {
  const end = await processes.run("sh", ["-c", "head -c 3000000 /dev/zero"]);
  assert.equal(end.stdout.length, 2 ** 20);
});

test("a program that is not there is said", async () => {
  await assert.rejects(processes.run("no-such-program-here", []), (error) => {
    assert.ok(isKelpieError(error, "not-found"));
    assert.match(error.message, /no program no-such-program-here/);
    return true;
  });
  await assert.rejects(processes.run("/", []), (error) => isKelpieError(error, "io"));
});
