import { globSync } from "node:fs";
import { dirname } from "node:path";

/** Test files in the order in which they are tried. */
interface Check {
  name: string;
  /** Patterns of paths, for a bug in this file. */
  patterns(mutated: string): string[];
}

/** A folder of src/ whose tests are tried together: "src/store", "src/nbd". */
const layerOf = (file: string) => file.split("/").slice(0, 2).join("/");

const always =
  (...patterns: string[]) =>
  () =>
    patterns;

/**
 * From what takes a second to what takes half a minute and more. None that depends on how fast the
 * machine is: what fails there may have failed for lack of time.
 */
export const checks: readonly Check[] = [
  { name: "beside", patterns: (file) => [file.replace(/\.ts$/, "")] },
  { name: "folder", patterns: (file) => [`${dirname(file)}/*`] },
  { name: "stories", patterns: always("test/store/found-*", "test/fail-at-n/found") },
  { name: "missing sync", patterns: always("test/crash/missing-sync") },
  { name: "conformance", patterns: always("test/conformance/*", "test/formats/*") },
  { name: "layer", patterns: (file) => [`${layerOf(file)}/**/*`] },
  { name: "store and vdi", patterns: always("src/store/*", "src/vdi/*") },
  { name: "fuzz", patterns: always("test/fuzz/*") },
  { name: "fail at n", patterns: always("test/fail-at-n/*") },
  { name: "crash points", patterns: always("test/crash-points/*") },
  { name: "model", patterns: always("test/store/model") },
  { name: "simulation", patterns: always("test/sim/**/*", "sim/**/*") },
];

/** The last one of a quick hunt. */
const quickEnd = "store and vdi";

/** The test files of a checkout to try for a bug in this file, each once. */
export function checksFor(
  mutated: string,
  { directory, isQuick }: { directory: string; isQuick: boolean },
): { check: string; path: string }[] {
  const seen = new Set<string>();
  const count = isQuick ? checks.findIndex(({ name }) => name === quickEnd) + 1 : checks.length;
  return checks.slice(0, count).flatMap(({ name, patterns }) => {
    const found = patterns(mutated).flatMap((pattern) =>
      globSync(`${pattern}.test.ts`, { cwd: directory }).sort(),
    );
    const fresh = found.filter((path) => !seen.has(path));
    for (const path of fresh) seen.add(path);
    return fresh.map((path) => ({ check: name, path }));
  });
}
