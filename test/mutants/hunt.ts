import { runTestFile } from "../../scripts/test-file.ts";
import { checksFor } from "./checks.ts";
import type { Mutant } from "./mutant.ts";
import type { ScratchCheckout } from "./scratch-checkout.ts";

export interface Hunt {
  name: string;
  /** What found it: the kind of check, the test file, the first test that failed. */
  foundBy: { check: string; path: string; test: string } | undefined;
  seconds: number;
  filesRun: number;
}

/** A bug that makes a test hang is found too, but not waited for: none takes so long by itself. */
const limitMs = 240_000;

export interface HuntSettings {
  signal: AbortSignal;
  /** Names of checks; all of them if not given. */
  only?: readonly string[] | undefined;
}

/** Runs one check after the other on a copy that has the bug, until one fails. */
export async function hunt(
  mutant: Mutant,
  scratch: ScratchCheckout,
  settings: HuntSettings,
): Promise<Hunt> {
  scratch.plant(mutant);
  try {
    return await runChecks(mutant, scratch, settings);
  } finally {
    scratch.restore(mutant);
  }
}

/** The same for a copy without a bug: whatever fails then finds no bugs. */
export function huntNothing(
  file: string,
  scratch: ScratchCheckout,
  settings: HuntSettings,
): Promise<Hunt> {
  return runChecks({ name: "no bug at all", file }, scratch, settings);
}

async function runChecks(
  { name, file }: { name: string; file: string },
  scratch: ScratchCheckout,
  { signal, only }: HuntSettings,
): Promise<Hunt> {
  const startMs = performance.now();
  let filesRun = 0;
  let foundBy: Hunt["foundBy"];
  const { directory } = scratch;
  for (const { check, path } of checksFor(file, { directory, only })) {
    if (signal.aborted) break;
    filesRun++;
    const result = await runTestFile(path, { limitMs, nodeOptions: [], signal, directory });
    const failed = result.reports.find(({ event }) => event === "fail");
    if (failed === undefined && result.complaint === undefined) continue;
    foundBy = { check, path, test: failed?.name ?? result.complaint ?? "" };
    break;
  }
  return { name, foundBy, seconds: (performance.now() - startMs) / 1000, filesRun };
}
