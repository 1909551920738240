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
 * From what takes a second to what takes half a minute and more; simulation, whose turn comes in any
 * case, before what it may make superfluous. None that depends on how fast the
 * machine is: what fails there may have failed for lack of time. Nor the digests of worlds, which any
 * change of what the source does makes different, a bug or not.
 */
export const checks: readonly Check[] = [
  { name: "beside", patterns: (file) => [file.replace(/\.ts$/, "")] },
  { name: "simulation", patterns: always("test/mutants/many-worlds") },
  { name: "folder", patterns: (file) => [`${dirname(file)}/*`] },
  { name: "stories", patterns: always("test/store/found-*", "test/fail-at-n/found") },
  { name: "missing sync", patterns: always("test/crash/missing-sync") },
  { name: "conformance", patterns: always("test/conformance/*", "test/formats/*") },
  { name: "layer", patterns: (file) => [`${layerOf(file)}/**/*`] },
  { name: "store and vdi", patterns: always("src/store/*", "src/vdi/*") },
  { name: "fail at n", patterns: always("test/fail-at-n/*") },
  { name: "crash points", patterns: always("test/crash-points/*") },
  { name: "fuzz", patterns: always("test/fuzz/*") },
  { name: "model", patterns: always("test/store/model") },
];

/** The test files of a checkout to try for a bug in this file, each once; of these checks only, if named. */
export function checksFor(
  mutated: string,
  { directory, only }: { directory: string; only: readonly string[] | undefined },
): { check: string; path: string }[] {
  const seen = new Set<string>();
  const chosen = checks.filter(({ name }) => only === undefined || only.includes(name));
  return chosen.flatMap(({ name, patterns }) => {
    const found = patterns(mutated).flatMap((pattern) =>
      // The worlds are no test of npm test: see simulate.ts.
      globSync(`${pattern}{.test,}.ts`, { cwd: directory })
        .filter((path) => path.endsWith(".test.ts") || path === manyWorlds)
        .sort(),
    );
    const fresh = found.filter((path) => !seen.has(path));
    for (const path of fresh) seen.add(path);
    return fresh.map((path) => ({ check: name, path }));
  });
}

const manyWorlds = "test/mutants/many-worlds.ts";
