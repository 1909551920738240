import { isTest, lineAt, type Problem, type SourceFile } from "./source.ts";

/** Something that must not be written, and where it must not be. */
interface Rule {
  name: string;
  pattern: RegExp;
  /** Look at the code without comments and strings, or at every character. */
  in: "code" | "text";
  /** Exceptions are named here, each with its reason beside it. */
  appliesTo(path: string): boolean;
  message: string;
}

const isSource = (path: string) => /\.(ts|js|cjs)$/.test(path);
const isProduct = (path: string) => path.startsWith("src/") && isSource(path) && !isTest(path);
const isHostNode = (path: string) => path.startsWith("src/host/node/");
const isCommandLine = (path: string) => path.startsWith("src/cli/");

/**
 * The simulator is under the same ban as src/: a seed must be the only thing that decides what a
 * world does.
 */
const isReplayable = (path: string) =>
  !isTest(path) && isSource(path) && !isHostNode(path) && /^(src|sim)\//.test(path);

/** Files that may break one rule, and why. An entry that is not needed any more fails the check. */
export const exceptions: Record<string, Record<string, string>> = {
  "sim/memory-timers.ts": { timers: "time is virtual, but turns of the event loop are real ones" },
  "src/cli/image-format.ts": { bigint: "the headers of other programs' images hold 64-bit sizes" },
  "src/base/sizes.ts": { bigint: "what people type is checked exactly before it becomes a number" },
};

/** What of `process` the command line may use. It starts, stops and reports; nothing else. */
const processMembers = [
  "argv",
  "cwd", // relative paths are the user's
  "env", // KELPIE_STORE, NO_COLOR
  "exit", // the second Ctrl-C
  "exitCode",
  "off",
  "on", // SIGINT, SIGTERM
  "once",
  "pid", // names the process to people and to the server
  "stderr",
  "stdin",
  "stdout",
];

export const rules: readonly Rule[] = [
  {
    name: "clock",
    pattern: /\bDate\.now\b|\bnew Date\(\s*\)|(?<![\w.])performance\b|\bhrtime\b/g,
    in: "code",
    appliesTo: isReplayable,
    message: "the clock comes from host/clock.ts",
  },
  {
    name: "timers",
    pattern: /(?<![\w.])(set|clear)(Timeout|Interval|Immediate)\b/g,
    in: "code",
    appliesTo: isReplayable,
    message: "timers come from host/timers.ts",
  },
  {
    name: "randomness",
    pattern: /\bMath\.random\b|(?<![\w.])crypto\.|\brandom(Bytes|UUID|Int|FillSync)\b/g,
    in: "code",
    appliesTo: isReplayable,
    message: "randomness comes from host/random.ts",
  },
  {
    name: "network",
    pattern: /(?<![\w.])(fetch\(|WebSocket\b|EventSource\b)/g,
    in: "code",
    appliesTo: isReplayable,
    message: "the network comes from host/net.ts",
  },
  {
    name: "process",
    pattern: /(?<![\w.])process\b(?!\s*:)/g,
    in: "code",
    appliesTo: (path) => isReplayable(path) && !isCommandLine(path),
    message: "the process belongs to cli/ and host/node",
  },
  {
    name: "process in cli",
    pattern: new RegExp(`(?<![\\w.])process\\.(?!(${processMembers.join("|")})\\b)`, "g"),
    in: "code",
    appliesTo: isCommandLine,
    message: `the command line uses only ${processMembers.join(", ")} of process`,
  },
  {
    name: "console",
    pattern: /(?<![\w.])console\./g,
    in: "code",
    appliesTo: isProduct,
    message: "cli/ writes to process.stdout, everything else to host/log.ts",
  },
  {
    name: "bigint",
    pattern:
      /\bBigInt\b|\bbigint\b|\bBig(Int|Uint)64Array\b|(?<![\w$.])\d[\d_]*n\b|Big(Ui|I)nt64\b/g,
    in: "code",
    appliesTo: (path) => isProduct(path) && !/(^|\/)(wire[^/]*\.ts$|formats\/)/.test(path),
    message: "64-bit integers stay in wire*.ts and formats/; inside, numbers are safe integers",
  },
  {
    name: "any",
    pattern: /(?:[:|&<]|<[^<>()]*,)\s*any\b|\bas any\b|\bany\[\]/g,
    in: "code",
    appliesTo: (path) => path.endsWith(".ts"),
    message: "no `any`: use `unknown` and look",
  },
  {
    name: "compiler",
    pattern: /@ts-(ignore|nocheck)/g,
    in: "text",
    appliesTo: (path) => isSource(path) && !isTidy(path),
    message: "the type checker is not switched off",
  },
  {
    name: "unfinished",
    pattern: /\b(FIXME|TODO|XXX)\b/g,
    in: "text",
    appliesTo: (path) => !isTidy(path),
    message: "what is unfinished goes into an issue, not onto main",
  },
  {
    name: "machine path",
    pattern: /(?<![\w.$}-])\/(root|work|Users\/\w+|home\/\w+)\//g,
    in: "text",
    appliesTo: (path) => !isTidy(path),
    message: "a path of one machine",
  },
];

/** Files that may be longer than the limit, with their present length: it may only shrink. */
const longFiles: Record<string, number> = {};
const fileLinesMax = 500;
const lineColumnsMax = 100;
/** The formatter breaks code, but neither comments nor strings: a word or two may hang over. */
const hangingColumnsMax = 110;

export function checkRules(files: readonly SourceFile[]): Problem[] {
  return files.flatMap((file) =>
    rules
      .filter((rule) => rule.appliesTo(file.path))
      .filter((rule) => exceptions[file.path]?.[rule.name] === undefined)
      .flatMap((rule) => findBreaches(file, rule)),
  );
}

/** Exceptions that excuse nothing: the file is gone, or it keeps the rule by now. */
export function checkExceptions(files: readonly SourceFile[]): string[] {
  return Object.entries(exceptions).flatMap(([path, names]) =>
    Object.keys(names).filter((name) => {
      const file = files.find((candidate) => candidate.path === path);
      const rule = rules.find((candidate) => candidate.name === name);
      return file === undefined || rule === undefined || findBreaches(file, rule).length === 0;
    }),
  );
}

export function checkSizes(files: readonly SourceFile[]): Problem[] {
  return files.flatMap(({ path, text }) => {
    if (!isSource(path) && path !== "bin/kelpie") return [];
    const lines = text.trimEnd().split("\n");
    const linesMax = longFiles[path] ?? fileLinesMax;
    const problems: Problem[] = [];
    if (lines.length > linesMax) {
      problems.push({ path, line: linesMax, message: `${lines.length} lines, limit ${linesMax}` });
    }
    for (const [index, line] of lines.entries()) {
      const columns = [...line].length;
      const hangs = /^\s*(\/\/|\/?\*)|["'`]/.test(line);
      if (columns <= (hangs ? hangingColumnsMax : lineColumnsMax) || line.includes("://")) continue;
      problems.push({ path, line: index + 1, message: `${columns} columns` });
    }
    return problems;
  });
}

function findBreaches(file: SourceFile, rule: Rule): Problem[] {
  return [...file[rule.in].matchAll(rule.pattern)].map((match) => ({
    path: file.path,
    line: lineAt(file.text, match.index),
    message: `${match[0].trim()}: ${rule.message}`,
  }));
}

/** The rules have to name what they forbid. */
function isTidy(path: string): boolean {
  return path.startsWith("test/tidy/");
}
