import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { checkCycles, checkLayers, layers } from "./layers.ts";
import { assertNone, describe, readProject, sourceFile } from "./source.ts";

const root = join(import.meta.dirname, "../..");
const project = readProject(root);

function problemsOf(path: string, text: string): string {
  return describe(checkLayers([sourceFile(path, text)]));
}

test("imports go one way only", () => {
  assert.ok(project.length > 10, "the project was not found");
  assertNone(checkLayers(project));
});

test("no files import each other in a ring", () => {
  assertNone(checkCycles(project));
});

test("every folder of src/ has its place in the table of layers", () => {
  const folders = readdirSync(join(root, "src"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
  assert.deepEqual(
    folders.filter((folder) => !Object.hasOwn(layers, folder)),
    [],
  );
});

test("an import from a higher layer is found, type imports too", () => {
  assert.match(
    problemsOf("src/base/a.ts", 'import { b } from "../host/b.ts";'),
    /a.ts:1: base may/,
  );
  assert.match(problemsOf("src/nbd/a.ts", 'import type { V } from "../vdi/v.ts";'), /nbd may not/);
  assert.match(problemsOf("src/nbd/a.ts", 'export * from "../store/v.ts";'), /nbd may not/);
  assert.match(problemsOf("src/store/a.ts", 'type V = import("../vdi/v.ts").V;'), /store may not/);
  assert.match(problemsOf("src/store/m/a.ts", "await import(`../../vdi/v.ts`);"), /store may not/);
  assert.match(problemsOf("src/base/a.ts", 'import "../cli/main.ts";'), /base may not/);
  assert.match(
    problemsOf("src/vdi/a.ts", 'import {\n  a,\n  b,\n} from "../nbd/v.ts";'),
    /vdi may/,
  );
});

test("only the composition root imports the real host", () => {
  const line = 'import { nodeHost } from "../host/node/node-host.ts";';
  assert.match(problemsOf("src/store/a.ts", line), /store may not import host\/node/);
  assert.match(problemsOf("src/control/a.ts", line), /control may not import host\/node/);
  assert.match(problemsOf("src/host/a.ts", line), /host may not import host\/node/);
  assert.equal(problemsOf("src/cli/serve.ts", line), "");
  assert.equal(problemsOf("src/store/a.test.ts", line), "");
});

test("control sees of Sheepdog the client, and nothing else", () => {
  assert.equal(problemsOf("src/control/a.ts", 'import "../sheepdog/client.ts";'), "");
  assert.match(problemsOf("src/control/a.ts", 'import "../sheepdog/server.ts";'), /may not/);
});

test("a wire file imports base and other wire files of its protocol", () => {
  assert.equal(problemsOf("src/nbd/wire.ts", 'import { Reader } from "../base/bytes.ts";'), "");
  assert.equal(problemsOf("src/nbd/wire-reply.ts", 'import { x } from "./wire.ts";'), "");
  assert.match(problemsOf("src/nbd/wire.ts", 'import { s } from "./server.ts";'), /wire file/);
  assert.match(problemsOf("src/nbd/wire.ts", 'import { b } from "../block/b.ts";'), /wire file/);
});

test("modules that reach outside, and packages, belong to named layers", () => {
  for (const module of ["fs", "net", "child_process", "timers/promises", "sqlite", "process"]) {
    const line = `import * as it from "node:${module}";`;
    assert.match(problemsOf("src/store/a.ts", line), /store may not import node:/);
    assert.equal(problemsOf("src/host/node/a.ts", line), "");
  }
  assert.match(problemsOf("src/vdi/a.ts", 'import { randomBytes } from "node:crypto";'), /may not/);
  assert.match(problemsOf("src/vdi/a.ts", 'import * as all from "node:crypto";'), /may not/);
  assert.equal(problemsOf("src/vdi/a.ts", 'import { createHash } from "node:crypto";'), "");
  assert.equal(problemsOf("src/store/a.ts", 'import { crc32 } from "node:zlib";'), "");
  assert.match(
    problemsOf("src/store/a.ts", 'import { fastify } from "fastify";'),
    /store may not import fastify/,
  );
  assert.match(problemsOf("src/vdi/a.ts", 'import { c } from "commander";'), /may not/);
});

test("the product does not import tests or tools", () => {
  assert.match(problemsOf("src/cli/a.ts", 'import "../../test/tools.ts";'), /not under src/);
  assert.match(problemsOf("src/cli/a.ts", 'import "../base/bytes.test.ts";'), /a test/);
});

test("a folder that the table does not know is found", () => {
  assert.match(problemsOf("src/novelty/a.ts", ""), /not in the table/);
});

test("imports in comments and strings are not imports", () => {
  const text =
    '// import "../cli/a.ts";\nconst x = `import "../cli/a.ts"`; /* from "../cli/b.ts" */\n';
  assert.deepEqual(sourceFile("src/base/a.ts", text).imports, []);
});

test("a ring is found over any number of files, types apart", () => {
  const ring = [
    sourceFile("src/base/a.ts", 'import { type B, b } from "./b.ts";'),
    sourceFile("src/base/b.ts", 'import { c } from "./c/c.ts";'),
    sourceFile("src/base/c/c.ts", 'export { a } from "../a.ts";'),
  ];
  assert.match(describe(checkCycles(ring)), /a.ts -> src\/base\/b.ts -> src\/base\/c\/c.ts -> /);
  assert.equal(describe(checkCycles(ring.slice(0, 2))), "");
  const types = sourceFile("src/base/a.ts", 'import type { B } from "./b.ts";');
  assert.equal(describe(checkCycles([types, ...ring.slice(1)])), "");
});
