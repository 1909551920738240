import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { runCli } from "../../test/support/cli-run.ts";
import { FakeStore } from "../../test/support/fake-control.ts";

async function kelpie(...argv: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runCli(argv, { store: new FakeStore() });
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

function file(t: TestContext, text: string): string {
  const directory = mkdtempSync(join(tmpdir(), "kelpie-completion-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "script");
  writeFileSync(path, text);
  return path;
}

/** What bash offers at the end of a line. */
function offered(script: string, words: string[]): string[] {
  const program = `
    source "$1"; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kelpie 2>/dev/null
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = spawnSync("bash", ["-c", program, "bash", script, ...words], {
    encoding: "utf8",
  });
  return stdout.split("\n").filter((word) => word !== "");
}

test("bash completes commands and options where they are", async (t) => {
  const script = file(t, await kelpie("completion", "bash"));
  assert.ok(offered(script, ["kelpie", ""]).includes("vdi"));
  assert.deepEqual(offered(script, ["kelpie", "vdi", "cr"]), ["create"]);
  assert.deepEqual(offered(script, ["kelpie", "--store", "vdi", "to"]), ["top"]);
  assert.deepEqual(offered(script, ["kelpie", "vdi", "rollback", "d", "--li"]), ["--live"]);
  assert.deepEqual(offered(script, ["kelpie", "vdi", "--json", "snap"]), ["snapshot"]);
  assert.ok(offered(script, ["kelpie", "serve", "--"]).includes("--http"));
  assert.ok(!offered(script, ["kelpie", "vdi", "list", ""]).includes("create"));
});

test("the scripts for zsh and fish name every command", async () => {
  for (const shell of ["zsh", "fish"]) {
    const script = await kelpie("completion", shell);
    for (const name of ["serve", "rollback", "savevm", "inspect"]) {
      assert.match(script, new RegExp(`\\b${name}\\b`), `${name} for ${shell}`);
    }
  }
});

test("another shell is refused, with those that are known", async () => {
  const { exitCode, stderr } = await runCli(["completion", "csh"], { store: new FakeStore() });
  assert.equal(exitCode, 64);
  assert.match(stderr, /bash, zsh, fish/);
});

test("each command has a manual page, made from what its help says", async () => {
  const page = await kelpie("man", "vdi", "rollback");
  assert.match(page, /^\.TH "KELPIE\\-VDI\\-ROLLBACK" 1/);
  for (const part of ["NAME", "SYNOPSIS", "DESCRIPTION", "ARGUMENTS", "OPTIONS", "SEE ALSO"]) {
    assert.ok(page.includes(`\n.SH ${part}\n`), part);
  }
  assert.match(page, /\\-\\-live/);
  assert.match(page, /\.BR kelpie\\-vdi \(1\)/);
  const top = await kelpie("man");
  assert.match(top, /\.SH COMMANDS\n\.TP\n\.B serve\n/);
  assert.match(top, /Exit codes: 0 done/);
});

test("no line of a manual page is taken for a command of roff", async () => {
  const known = /^\.(TH|SH|TP|B|BR|nf|fi)\b/;
  for (const words of [[], ["serve"], ["vdi", "import"], ["vm", "run"]]) {
    const page = await kelpie("man", ...words);
    const strange = page.split("\n").filter((line) => /^[.']/.test(line) && !known.test(line));
    assert.deepEqual(strange, [], words.join(" "));
  }
});

test("a manual page of nothing is refused", async () => {
  const { exitCode, stderr } = await runCli(["man", "vdi", "nothing"], { store: new FakeStore() });
  assert.equal(exitCode, 64);
  assert.match(stderr, /there is no command kelpie vdi nothing/);
});
