import assert from "node:assert/strict";
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { findExample, projectRoot, readmeExample } from "../support/readme.ts";

/** Building takes seconds, and so does installing, from npm's cache or from a registry. */
const commandMs = 120_000;

const scratch = mkdtempSync(join(tmpdir(), "kelpie-pack-test-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const packed = join(scratch, "packed");
const project = join(scratch, "project");
const installed = join(project, "node_modules/kelpie");
const { version } = JSON.parse(readFileSync(join(projectRoot, "package.json"), "utf8"));

function run(command: string, args: string[], cwd = project): SpawnSyncReturns<string> {
  // As from a shell of somebody else: nothing of the npm that runs these tests, and this Node. But
  // what a machine needs to reach its registry stays.
  const foreign = /^(npm_|NODE_(?!EXTRA_CA_CERTS)|INIT_CWD)/;
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !foreign.test(name)),
  );
  env.PATH = `${dirname(process.execPath)}:${process.env.PATH}`;
  return spawnSync(command, args, { cwd, env, encoding: "utf8", timeout: commandMs });
}

function succeed(command: string, args: string[], cwd = project): string {
  const { status, stdout, stderr, error } = run(command, args, cwd);
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${error ?? ""}\n${stdout}\n${stderr}`);
  return stdout;
}

/**
 * A lock file with the versions that the checkout has: whoever ran `npm ci` there has them in npm's
 * cache. To choose versions npm would ask a registry for the history of each package, which can
 * take minutes.
 */
function lockFile(manifest: object, tarball: string): string {
  const lock = JSON.parse(readFileSync(join(projectRoot, "package-lock.json"), "utf8"));
  const locked = Object.entries<{ dev?: boolean }>(lock.packages).filter(
    ([path, { dev }]) => path !== "" && !dev && !path.startsWith("node_modules/node-linux-"),
  );
  const { name, bin, dependencies, optionalDependencies } = packedManifest(tarball);
  const resolved = `file:${tarball}`;
  const kelpie = { version, resolved, bin, dependencies, optionalDependencies };
  const packages = {
    "": manifest,
    [`node_modules/${name}`]: kelpie,
    ...Object.fromEntries(locked),
  };
  return JSON.stringify({ lockfileVersion: lock.lockfileVersion, requires: true, packages });
}

function packedManifest(tarball: string): Record<string, unknown> {
  return JSON.parse(succeed("tar", ["-xzOf", tarball, "package/package.json"]));
}

before(() => {
  mkdirSync(packed);
  mkdirSync(project);
  const pack = join(projectRoot, "scripts/package.ts");
  succeed(process.execPath, [pack, `--destination=${packed}`], projectRoot);
  const tarball = join(packed, `kelpie-${version}.tgz`);
  const dependencies = { kelpie: `file:${tarball}` };
  const manifest = { type: "module", private: true, dependencies };
  writeFileSync(join(project, "package.json"), JSON.stringify(manifest));
  writeFileSync(join(project, "package-lock.json"), lockFile(manifest, tarball));
  succeed("npm", ["ci", "--prefer-offline", "--no-audit", "--no-fund"]);
});

test("the packed package, installed into an empty project, runs", () => {
  assert.equal(succeed("npx", ["--no-install", "kelpie", "--version"]), `kelpie ${version}\n`);
});

test("it holds what runs and what must be said, no sources and no tests", () => {
  const names = readdirSync(installed, { recursive: true, encoding: "utf8" });
  const built = ["dist/cli/main.js", "dist/cli/main.d.ts", "dist/web/index.html"];
  for (const name of ["bin/kelpie", ...built, "man/kelpie-vdi-create.1", "LICENSE"]) {
    assert.ok(names.includes(name), `${name} is missing`);
  }
  assert.deepEqual(
    names.filter((name) => /\.test\.|^(src|test|sim|scripts)(\/|$)|(?<!\.d)\.ts$/.test(name)),
    [],
  );
});

test("its manifest points to what was built and leaves the checkout's tools out", () => {
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  assert.deepEqual(manifest.engines, { node: ">=24" });
  assert.deepEqual(manifest.bin, { kelpie: "bin/kelpie" });
  assert.deepEqual(Object.keys(manifest.optionalDependencies), ["@node-rs/crc32", "koffi"]);
  for (const field of ["allowScripts", "devDependencies", "scripts", "private"]) {
    assert.ok(!(field in manifest), field);
  }
  assert.match(manifest.exports["."].default, /^\.\/dist\/.*\.js$/);
  assert.match(manifest.exports["."].types, /^\.\/dist\/.*\.d\.ts$/);
  const nodes = readdirSync(join(project, "node_modules"));
  assert.deepEqual(
    nodes.filter((name) => name.startsWith("node-linux-")),
    [],
  );
});

test("the checkout's own manifest cannot be packed by mistake", () => {
  const { status, stderr } = run("npm", ["pack", "--dry-run"], projectRoot);
  assert.notEqual(status, 0);
  assert.match(stderr, /npm run package/);
});

test("the README's library example runs, and is well typed", (t) => {
  const noReadme = !existsSync(join(projectRoot, "README.md"));
  const example = noReadme ? undefined : readmeExample("library");
  if (example === undefined) return t.skip("README.md has no library example yet");
  writeFileSync(join(project, "example.ts"), example);
  succeed(process.execPath, ["example.ts"]);
  const types = join(projectRoot, "node_modules/@types");
  const options = [
    "--noEmit",
    "--strict",
    "--target",
    "es2024",
    "--lib",
    "es2024,esnext.disposable",
  ];
  const modules = ["--module", "nodenext", "--typeRoots", types, "--types", "node"];
  const tsc = join(projectRoot, "node_modules/.bin/tsc");
  succeed(tsc, [...options, ...modules, "example.ts"]);
});

test("an example is found by the comment above it", () => {
  const markdown =
    "<!-- example: a -->\n\n```ts\none();\n\ntwo();\n```\n\n<!-- example: b -->\ntext\n";
  assert.equal(findExample(markdown, "a"), "one();\n\ntwo();\n");
  assert.equal(findExample(markdown, "c"), undefined);
  assert.throws(() => findExample(markdown, "b"), /no code block/);
});
