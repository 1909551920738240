import { execFileSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { allMutants } from "./all-mutants.ts";
import type { Hunt } from "./hunt.ts";
import { checkout } from "./scratch-checkout.ts";
import { tableText } from "./table.ts";

/** A hunt, and of which commit the source was. */
export interface Result extends Hunt {
  commit: string;
}

const documentPath = join(checkout, "docs/testing.md");
const begin = "<!-- npm run mutants -- --write writes what follows -->\n";
const end = "<!-- and this ends it -->\n";

/** The commit of the checkout, with a plus sign if its files are not quite those. */
export function commitOf(): string {
  const git = (...args: string[]): string =>
    execFileSync("git", args, { cwd: checkout, encoding: "utf8" }).trim();
  const hasChanges = git("status", "--porcelain", "src", "sim", "test", "scripts") !== "";
  return git("rev-parse", "--short=7", "HEAD") + (hasChanges ? "+" : "");
}

/** Hunts that are kept in a file, a line of JSON each, so that many hours of them can be done in parts. */
export function readResults(path: string): Result[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Result);
}

/** One result for each bug, if some checks were run in one part and some in another. */
export function mergeResults(results: readonly Result[]): Result[] {
  const merged = new Map<string, Result>();
  for (const result of results) {
    const other = merged.get(result.name);
    if (other === undefined) {
      merged.set(result.name, result);
      continue;
    }
    const byTest = [result, other].find(({ foundBy }) => isTest(foundBy));
    const { foundBy, seconds } = byTest ?? (result.foundBy === undefined ? other : result);
    const filesRun = other.filesRun + result.filesRun;
    const simulation = longer(result.simulation, other.simulation);
    merged.set(result.name, { ...result, foundBy, seconds, filesRun, simulation });
  }
  return [...merged.values()];
}

/** Of two runs of the same worlds the one that went further, or found something. */
function longer(one: Result["simulation"], other: Result["simulation"]): Result["simulation"] {
  if (one === undefined || other?.failure !== undefined) return other;
  if (other === undefined || one.failure !== undefined) return one;
  return one.seconds < other.seconds ? other : one;
}

function isTest(foundBy: Result["foundBy"]): boolean {
  return foundBy !== undefined && foundBy.check !== "simulation";
}

export function keepResult(path: string, result: Result): void {
  appendFileSync(path, `${JSON.stringify(result)}\n`);
}

/** Puts the table of these hunts into docs/testing.md. */
export function writeTable(results: readonly Result[]): void {
  const text = readFileSync(documentPath, "utf8");
  const [before = "", rest] = text.split(begin);
  const after = rest?.split(end)[1];
  if (after === undefined)
    throw new Error(`${documentPath} has no place for the table: "${begin}"`);
  const table = tableText(mergeResults(results), allMutants.length);
  writeFileSync(documentPath, `${before}${begin}\n${table}\n${end}${after}`);
}
