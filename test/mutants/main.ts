/**
 * npm run mutants: plants bugs in a copy of the checkout, one at a time, and runs the tests on it, the
 * fastest first, until one fails. A bug that nobody finds is a missing test.
 *
 *     npm run mutants                       all of them, and once a copy without any
 *     npm run mutants -- --only=snapshot    those with this in their name or file
 *     npm run mutants -- --checks=beside,simulation   by these checks only: see checks.ts
 *     npm run mutants -- --json             the table for programs
 */
import { writeSync } from "node:fs";
import { allMutants } from "./all-mutants.ts";
import { type Hunt, type HuntSettings, hunt, huntNothing } from "./hunt.ts";
import type { Mutant } from "./mutant.ts";
import { ScratchCheckout } from "./scratch-checkout.ts";

/** Copies that are tested at the same time. */
const atOnceMax = 2;
/** The row of the copy without a bug. */
const nothing = "no bug at all";

async function main(args: string[]): Promise<number> {
  const only = optionOf(args, "only");
  const isJson = args.includes("--json");
  const chosen = allMutants.filter(
    ({ name, file }) => only === undefined || name.includes(only) || file.includes(only),
  );
  if (chosen.length === 0) {
    console.error(`no planted bug has "${only}" in its name or file`);
    return 1;
  }
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => controller.abort());
  const hunts = await huntAll(chosen, only === undefined, {
    signal: controller.signal,
    only: optionOf(args, "checks")?.split(","),
    tell: isJson ? () => {} : (line) => console.log(line),
  });
  if (controller.signal.aborted) return 130;
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

function optionOf(args: readonly string[], name: string): string | undefined {
  const start = `--${name}=`;
  return args.find((arg) => arg.startsWith(start))?.slice(start.length);
}

async function huntAll(
  mutants: readonly Mutant[],
  withNothing: boolean,
  parts: HuntSettings & { tell: (line: string) => void },
): Promise<Hunt[]> {
  const { signal, tell } = parts;
  const hunts: Hunt[] = [];
  const queue: (Mutant | undefined)[] = [...(withNothing ? [undefined] : []), ...mutants];
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
        tell(rowOf(done));
      }
    } finally {
      scratch.remove();
    }
  };
  await Promise.all(Array.from({ length: atOnceMax }, worker));
  return hunts;
}

function rowOf({ name, foundBy, seconds, filesRun }: Hunt): string {
  const by =
    foundBy === undefined
      ? `${name === nothing ? "passes" : "NOT FOUND"}, ${filesRun} files`
      : `${foundBy.check}: ${foundBy.path}: ${foundBy.test}`;
  return `${seconds.toFixed(1).padStart(6)} s  ${name.padEnd(68)}  ${by}`;
}

process.exitCode = await main(process.argv.slice(2));
