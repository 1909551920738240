import { runTestFile } from "../../scripts/test-file.ts";
import { checksFor } from "./checks.ts";
import type { Mutant } from "./mutant.ts";
import type { ScratchCheckout } from "./scratch-checkout.ts";
import { type Simulation, simulate } from "./simulate.ts";

export interface Hunt {
  name: string;
  /** The first check that found it: its kind, the test file, the first test that failed. */
  foundBy: { check: string; path: string; test: string } | undefined;
  /** From planting it until that, on the clock. */
  seconds: number;
  filesRun: number;
  /** What simulation alone makes of it. Undefined where that was not asked for. */
  simulation: Simulation | undefined;
}

/** A bug that makes a test hang is found too, but not waited for: none takes so long by itself. */
const limitMs = 240_000;
/** The same for one test of the source, of which many are in a file. */
const sourceTestMs = 30_000;

export interface HuntSettings {
  signal: AbortSignal;
  /** Names of checks; all of them if not given. */
  only?: readonly string[] | undefined;
  /** Of simulation, in processor time; a minute if not given. */
  simulationSeconds?: number | undefined;
}

/** Runs one check after the other on a copy that has the bug, until one fails; and simulation alone. */
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
  { signal, only, simulationSeconds: seconds = 60 }: HuntSettings,
): Promise<Hunt> {
  const startMs = performance.now();
  const result: Hunt = {
    name,
    foundBy: undefined,
    seconds: 0,
    filesRun: 0,
    simulation: undefined,
  };
  const found = (foundBy: Hunt["foundBy"]): void => {
    result.foundBy ??= foundBy;
    result.seconds = (performance.now() - startMs) / 1000;
  };
  const { directory } = scratch;
  for (const { check, path } of checksFor(file, { directory, only })) {
    if (signal.aborted) break;
    const isSimulation = check === "simulation";
    // It has its turn whatever has found the bug: what it finds is a promise of its own.
    if (result.foundBy !== undefined && !isSimulation) continue;
    if (isSimulation) {
      result.simulation = await simulate(scratch, { seconds, signal });
      const { failure } = result.simulation;
      if (failure !== undefined && result.foundBy === undefined)
        found({ check, path, test: failure });
      continue;
    }
    result.filesRun++;
    const nodeOptions = path.startsWith("src/") ? [`--test-timeout=${sourceTestMs}`] : [];
    const ran = await runTestFile(path, { limitMs, nodeOptions, signal, directory });
    // It would be found by every test file there is, and say nothing of any.
    if (ran.reports.length === 0 && ran.complaint?.startsWith("exit code") === true) {
      throw new Error(`with "${name}", ${path} does not load:\n${ran.output}`);
    }
    const failed = ran.reports.find(({ event }) => event === "fail");
    if (failed === undefined && ran.complaint === undefined) continue;
    found({ check, path, test: failed?.name ?? ran.complaint ?? "" });
  }
  if (result.foundBy === undefined) found(undefined);
  return result;
}
