import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { checkExceptions, checkRules, checkSizes, rules } from "./rules.ts";
import { assertNone, describe, readProject, sourceFile } from "./source.ts";

const root = join(import.meta.dirname, "../..");
const project = readProject(root);

function problemsOf(path: string, text: string): string {
  return describe(checkRules([sourceFile(path, text)]));
}

test("the project keeps the rules", () => {
  assert.ok(project.length > 10, "the project was not found");
  assertNone(checkRules(project));
});

test("every exception is still needed", () => {
  assert.deepEqual(checkExceptions(project), []);
});

test("no file and no line is too long", () => {
  assertNone(checkSizes(project));
});

test("every test file beside the source has a test", () => {
  // They share processes, and of one that had none the runner would not know.
  const files = project.filter(({ path }) => /^src\/.*\.test\.ts$/.test(path));
  assert.ok(files.length > 100, "they were not found");
  const without = files.filter(({ text }) => !/^ *(test|describe)\(/m.test(text));
  assert.deepEqual(
    without.map(({ path }) => path),
    [],
  );
});

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: the samples are source text.
/** For each rule what it must find, and what looks like it but is right. */
const samples: Record<string, { bad: [string, string][]; good: [string, string][] }> = {
  clock: {
    bad: [
      ["src/store/a.ts", "const now = Date.now();"],
      ["src/store/a.ts", "const now = new Date();"],
      ["src/vdi/a.ts", "performance.now();"],
      ["src/vdi/a.ts", "`${Date.now()}`;"],
      ["src/cli/a.ts", "Date.now();"],
      ["sim/world.ts", "Date.now();"],
    ],
    good: [
      ["src/cli/a.ts", "new Date(pointMs).toISOString();"],
      ["src/store/a.ts", "// Date.now() would be wrong here"],
      ["src/store/a.ts", "const performance_ = 'performance.now()';"],
      ["src/store/a.test.ts", "Date.now();"],
      ["src/host/node/clock.ts", "Date.now();"],
    ],
  },
  timers: {
    bad: [
      ["src/nbd/a.ts", "setTimeout(close, 10);"],
      ["sim/net.ts", "setImmediate(next);"],
      ["src/cli/a.ts", "clearInterval(x);"],
    ],
    good: [["src/nbd/a.ts", "socket.setTimeout(10);"]],
  },
  randomness: {
    bad: [
      ["src/vdi/a.ts", "Math.random()"],
      ["src/vdi/a.ts", "crypto.getRandomValues(x)"],
      ["sim/a.ts", "randomUUID()"],
    ],
    good: [["src/vdi/a.ts", "host.random.bytes(8)"]],
  },
  network: {
    bad: [["src/vdi/a.ts", 'await fetch("http://localhost");']],
    good: [["src/vdi/a.ts", "this.fetch();"]],
  },
  process: {
    bad: [
      ["src/store/a.ts", "process.env.X"],
      ["src/store/a.ts", "const { env } = process;"],
    ],
    good: [["src/store/a.ts", "const row = { process: 1 }; row.process;"]],
  },
  "process in cli": {
    bad: [["src/cli/a.ts", "process.hrtime()"]],
    good: [["src/cli/a.ts", "process.stdout.write(process.argv.join())"]],
  },
  console: {
    bad: [["src/cli/a.ts", "console.log(1)"]],
    good: [["scripts/a.ts", "console.log(1)"]],
  },
  bigint: {
    bad: [
      ["src/store/a.ts", "const a = 10n;"],
      ["src/store/a.ts", "view.getBigUint64(0)"],
      ["src/base/a.ts", "let a: bigint;"],
    ],
    good: [
      ["src/nbd/wire.ts", "const a = 10n;"],
      ["src/nbd/wire-reply.ts", "const a = 10n;"],
      ["src/store/formats/a.ts", "view.getBigUint64(0)"],
      ["src/store/a.ts", "const map10n = v1n;"],
    ],
  },
  any: {
    bad: [
      ["src/store/a.ts", "let a: any;"],
      ["test/a.ts", "f(x as any)"],
      ["src/store/a.ts", "Map<string, any>"],
    ],
    good: [["src/store/a.ts", "if (any) f(any.x); // any: thing"]],
  },
  compiler: {
    bad: [["src/store/a.ts", "// @ts-ignore\nf();"]],
    good: [["src/store/a.test.ts", "// @ts-expect-error: refused by the type\nf();"]],
  },
  unfinished: {
    bad: [
      ["src/store/a.ts", "// TODO later"],
      ["docs/a.md", "FIXME"],
    ],
    good: [["src/store/a.ts", 'const t = { todo: 1, m: "XXXXXX" };']],
  },
  "machine path": {
    bad: [
      ["docs/a.md", "see /root/x"],
      ["src/a.ts", 'const p = "/home/someone/x";'],
    ],
    good: [["docs/a.md", "ProtectHome hides /home; see ../x"]],
  },
};

// biome-ignore-end lint/suspicious/noTemplateCurlyInString: the samples are source text.

for (const { name } of rules) {
  test(`the rule "${name}" finds what it forbids and nothing else`, () => {
    const { bad = [], good = [] } = samples[name] ?? {};
    assert.ok(bad.length > 0 && good.length > 0, "a rule needs samples");
    for (const [path, text] of bad) assert.notEqual(problemsOf(path, text), "", `${path}: ${text}`);
    for (const [path, text] of good) assert.equal(problemsOf(path, text), "", `${path}: ${text}`);
  });
}

test("a file of 501 lines, code of 101 columns and a comment of 111 are found", () => {
  const long = [sourceFile("src/base/a.ts", "f();\n".repeat(501))];
  assert.match(describe(checkSizes(long)), /501 lines/);
  const wide = [sourceFile("src/base/a.ts", `f();\nf(${"x".repeat(98)})\n`)];
  assert.match(describe(checkSizes(wide)), /a.ts:2: 101 columns/);
  const hanging = [sourceFile("src/base/a.ts", `// ${"x".repeat(108)}\n// ${"x".repeat(107)}`)];
  assert.equal(describe(checkSizes(hanging)), "src/base/a.ts:1: 111 columns");
});

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: the samples are source text.
test("code is told from comments, strings, templates and regular expressions", () => {
  const text = [
    'const a = "x // y"; // Date.now()',
    "const b = `a ${f({ k: `}` })} /* no */`; g(); /* yes",
    'yes */ const c = /[/`"]/.test(d) ? 1 / 2 / h : i;',
  ].join("\n");
  const { code } = sourceFile("src/base/a.ts", text);
  assert.equal(
    code,
    [
      'const a = "      ";              ',
      "const b = `  ${f({ k: ` ` })}         `; g();       ",
      "       const c = /     /.test(d) ? 1 / 2 / h : i;",
    ].join("\n"),
  );
});
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: the samples are source text.
