import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { blankComments, blankStrings } from "./blank.ts";

/** One file of the project, as the tidy rules see it. */
export interface SourceFile {
  /** From the root of the checkout, with "/". */
  path: string;
  text: string;
  /** `text` with comments and the contents of strings replaced by spaces; columns stay. */
  code: string;
  imports: Import[];
}

export interface Import {
  /** As written: "node:fs", "zod", "../base/errors.ts". */
  specifier: string;
  /** What is imported by name; empty for the whole module. */
  names: string[];
  /** `import type`: gone when the program runs. */
  typeOnly: boolean;
  line: number;
}

export interface Problem {
  path: string;
  line: number;
  message: string;
}

/** Every file that is ours: not what is installed, built, or served. */
export function readProject(root: string): SourceFile[] {
  return walk(root, "").map((path) => sourceFile(path, readFileSync(join(root, path), "utf8")));
}

export function sourceFile(path: string, text: string): SourceFile {
  if (!/\.(ts|js|cjs)$/.test(path)) return { path, text, code: "", imports: [] };
  const code = blankStrings(blankComments(text));
  return { path, text, code, imports: findImports(code, text) };
}

export function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split("\n").length;
}

export function assertNone(problems: readonly Problem[]): void {
  if (problems.length > 0) assert.fail(`\n${describe(problems)}`);
}

/** One line per problem, as compilers write them; "" if there are none. */
export function describe(problems: readonly Problem[]): string {
  return problems.map(({ path, line, message }) => `${path}:${line}: ${message}`).join("\n");
}

/** Tests and what only they use: not part of the product. */
export function isTest(path: string): boolean {
  return /^(test|bench|scripts)\//.test(path) || /\.test\.ts$/.test(path);
}

const notOurs = new Set([".git", "node_modules", "dist", "kelpie-data", "coverage", "LICENSE"]);
const textual = /(\.(ts|js|cjs|json|md|service|sh|yml)|\/run|\/kelpie|\/\.\w+)$/;

function walk(root: string, folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (notOurs.has(entry.name) || entry.name === "package-lock.json") return [];
    if (entry.isDirectory()) return walk(root, path);
    return entry.isFile() && textual.test(`/${path}`) ? [path] : [];
  });
}

// The strings are blank in `code`, so a statement that is itself in a string is not found.
const importForms = [
  /\b(?:import|export)\b([^;"'`()]*?)\bfrom\s*(["'])\s*\2/g,
  /\bimport()\s*(["'])\s*\2/g,
  /\b(?:import|require)()\s*\(\s*(["'`])\s*\2/g,
];

function findImports(code: string, text: string): Import[] {
  return importForms.flatMap((form) =>
    [...code.matchAll(form)].map((match) => {
      const end = match.index + match[0].length - 1;
      const quote = match[2] ?? '"';
      const start = code.lastIndexOf(quote, end - 1) + 1;
      return {
        specifier: text.slice(start, end),
        names: namesIn(match[1] ?? ""),
        typeOnly: /^\s*type\b/.test(match[1] ?? ""),
        line: lineAt(text, match.index),
      };
    }),
  );
}

function namesIn(clause: string): string[] {
  const list = /\{([^}]*)\}/.exec(clause)?.[1] ?? "";
  return list
    .split(",")
    .map((item) =>
      item
        .trim()
        .replace(/^type\s+/, "")
        .replace(/\s+as\s.*$/s, ""),
    )
    .filter((name) => name !== "");
}
