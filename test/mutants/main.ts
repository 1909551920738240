/**
 * npm run mutants: plants bugs in a copy of the checkout, one at a time, and runs the tests on it, the
 * fastest first, until one fails; and a minute of simulation, whatever has found it. A bug that nobody
 * finds is a missing test.
 *
 *     npm run mutants                       all of them, and once a copy without any
 *     npm run mutants -- --only=snapshot    those with this in their name or file; "unseen" are those
 *                                           chosen by somebody who had not seen the tests
 *     npm run mutants -- --checks=beside,simulation   by these checks only: see checks.ts
 *     npm run mutants -- --simulation-s=10   of processor time for simulation, not a minute
 *     npm run mutants -- --json             the table for programs
 *     npm run mutants -- --results=FILE     keeps each result there, and skips what it has already
 *     npm run mutants -- --results=FILE --write   puts the table of them into docs/testing.md; no hunts
 */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { allMutants } from "./all-mutants.ts";
import { type Hunt, type HuntSettings, hunt, huntNothing } from "./hunt.ts";
import type { Mutant } from "./mutant.ts";
import { commitOf, keepResult, readResults, writeTable } from "./results.ts";
import { checkout, ScratchCheckout } from "./scratch-checkout.ts";
import { unseenMutants } from "./unseen.ts";

/** Copies that are tested at the same time. */
const atOnceMax = 2;
/** The row of the copy without a bug. */
const nothing = "no bug at all";

async function main(args: string[]): Promise<number> {
  const only = optionOf(args, "only");
  const isJson = args.includes("--json");
  const resultsPath = optionOf(args, "results");
  const known = resultsPath === undefined ? [] : readResults(resultsPath);
  if (args.includes("--write")) {
    writeTable(known);
    return 0;
  }
  const chosen = allMutants.filter((mutant) => only === undefined || isNamed(mutant, only));
  if (chosen.length === 0) {
    console.error(`no planted bug has "${only}" in its name or file`);
    return 1;
  }
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => controller.abort());
  const isKnown = (name: string) => known.some((result) => result.name === name);
  const queue: (Mutant | undefined)[] = chosen.filter(({ name }) => !isKnown(name));
  if (only === undefined && !isKnown(nothing)) queue.unshift(undefined);
  const commit = resultsPath === undefined ? "" : commitOf();
  const hunts = await huntAll(queue, {
    signal: controller.signal,
    only: optionOf(args, "checks")?.split(","),
    simulationSeconds: Number(optionOf(args, "simulation-s") ?? 60),
    tell: (done) => {
      if (!isJson) console.log(rowOf(done));
      if (resultsPath !== undefined) keepResult(resultsPath, { ...done, commit });
    },
  });
  if (controller.signal.aborted) return 130;
  return summarize([...known, ...hunts], isJson);
}

function summarize(hunts: readonly Hunt[], isJson: boolean): number {
  // At once, however long it is: a pipe may take only a part of it later.
  if (isJson) writeSync(1, `${JSON.stringify(hunts, undefined, 2)}\n`);
  const bugs = hunts.filter(({ name }) => name !== nothing);
  const found = bugs.filter(({ foundBy }) => foundBy !== undefined);
  const wrong = hunts.find(({ name }) => name === nothing)?.foundBy;
  if (!isJson) {
    console.log(`\n${found.length} of ${bugs.length} planted bugs were found`);
    if (wrong !== undefined) console.log(`A copy without a bug fails in ${wrong.path}`);
  }
  return found.length === bugs.length && wrong === undefined ? 0 : 1;
}

function isNamed(mutant: Mutant, only: string): boolean {
  if (only === "unseen") return unseenMutants.includes(mutant);
  return mutant.name.includes(only) || mutant.file.includes(only);
}

function optionOf(args: readonly string[], name: string): string | undefined {
  const start = `--${name}=`;
  return args.find((arg) => arg.startsWith(start))?.slice(start.length);
}

async function huntAll(
  queue: (Mutant | undefined)[],
  parts: HuntSettings & { tell: (done: Hunt) => void },
): Promise<Hunt[]> {
  const { signal, tell } = parts;
  const hunts: Hunt[] = [];
  const worker = async () => {
    const scratch = new ScratchCheckout();
    try {
      while (queue.length > 0 && !signal.aborted) {
        const mutant = queue.shift();
        const file = "src/store/store.ts";
        const done = await (mutant === undefined
          ? huntNothing(file, scratch, parts)
          : hunt(mutant, scratch, parts));
        if (signal.aborted) return;
        hunts.push(done);
        tell(done);
      }
    } finally {
      scratch.remove();
    }
  };
  await Promise.all(Array.from({ length: atOnceMax }, worker));
  return hunts;
}

function rowOf({ name, foundBy, seconds, filesRun, simulation }: Hunt): string {
  const by =
    foundBy === undefined
      ? `${name === nothing ? "passes" : "NOT FOUND"}, ${filesRun} files`
      : `${foundBy.check}: ${foundBy.path}: ${foundBy.test}`;
  const alone =
    simulation === undefined
      ? ""
      : simulation.failure === undefined
        ? `; no world of ${simulation.worlds}`
        : `; world ${simulation.worlds}, ${simulation.seconds.toFixed(1)} s`;
  return `${seconds.toFixed(1).padStart(6)} s  ${name.padEnd(68)}  ${by}${alone}`;
}

// Hundreds of processes load much the same files: what one has compiled the others need not.
process.env.NODE_COMPILE_CACHE ??= join(checkout, "node_modules/.cache/mutants");
process.exitCode = await main(process.argv.slice(2));
