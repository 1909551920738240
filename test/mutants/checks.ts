import { globSync } from "node:fs";
import { dirname } from "node:path";

/** Test files in the order in which they are tried. */
interface Check {
  name: string;
  files(mutated: string): string[];
}

/** A folder of src/ whose tests are tried together: "store", "nbd". */
const layerOf = (file: string) => file.split("/").slice(0, 2).join("/");

const matching =
  (...patterns: string[]) =>
  () =>
    patterns.flatMap((pattern) => globSync(`${pattern}.test.ts`).sort());

/** From what takes a second to what takes a minute. */
export const checks: readonly Check[] = [
  { name: "beside", files: (file) => globSync(file.replace(/\.ts$/, ".test.ts")) },
  { name: "folder", files: (file) => globSync(`${dirname(file)}/*.test.ts`).sort() },
  { name: "layer", files: (file) => globSync(`${layerOf(file)}/**/*.test.ts`).sort() },
  { name: "store above", files: matching("src/store/*", "src/vdi/*") },
  { name: "model", files: matching("test/store/model", "test/store/found-*", "test/formats/*") },
  { name: "fuzz", files: matching("test/fuzz/*") },
  { name: "missing sync", files: matching("test/crash/missing-sync") },
  { name: "crash points", files: matching("test/crash-points/crash-points") },
  { name: "fail at n", files: matching("test/fail-at-n/*") },
  { name: "simulation", files: matching("test/sim/**/*", "sim/**/*") },
  { name: "system", files: matching("test/system/*", "test/conformance/*", "test/crash/kill") },
];

/** All of them for a bug in this file, each file once. */
export function checksFor(mutated: string): { check: string; path: string }[] {
  const seen = new Set<string>();
  return checks.flatMap(({ name, files }) => {
    const fresh = files(mutated).filter((path) => !seen.has(path));
    for (const path of fresh) seen.add(path);
    return fresh.map((path) => ({ check: name, path }));
  });
}
