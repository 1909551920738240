import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { findExample, projectRoot } from "../support/readme.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool } from "../support/tools.ts";

const noCurl = requireTool("curl", "curl");
const document = readFileSync(join(projectRoot, "docs/api.md"), "utf8");

test("the commands of docs/api.md do what it says", { skip: noCurl }, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"), ["--http", "127.0.0.1:0"]);
  symlinkSync(server.store, scratch.file("kelpie-data"));
  const { http } = await server.control.call("server.info", {});
  const run = (name: string): string => {
    const example = findExample(document, name);
    assert.ok(example !== undefined, `docs/api.md has no example "${name}"`);
    // The server of the test has another port than the default one.
    const script = example.replace("http://127.0.0.1:7080", http[0] ?? "");
    const options = { cwd: scratch.path, encoding: "utf8" } as const;
    const { status, stdout, stderr } = spawnSync("bash", ["-euc", script], options);
    assert.equal(status, 0, `${script}\n${stderr}`);
    return stdout;
  };
  assert.equal(run("socket"), "[]");
  assert.equal(JSON.parse(run("tcp")).name, "disk1");
  assert.equal(JSON.parse(run("socket"))[0].sizeBytes, 2 ** 30);
  const [begun, listed] = run("job")
    .replace("}[", "}\n[")
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(begun.call, "store.check");
  assert.equal(listed[0].id, begun.id);
});
