import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { barChart } from "./bar-chart.ts";
import { checkReport, figuresOf, type Recorded, readRecorded, verdictOf } from "./check.ts";
import { writeFlameGraphs } from "./flame/flame-graphs.ts";
import { loadPerCore } from "./machine.ts";
import { formatMicro, runMicroBenches } from "./micro/all.ts";
import { type BenchOptions, help } from "./options.ts";
import type { BenchReport } from "./report.ts";
import { runFigures, type Sizes } from "./run.ts";
import { measureSnapshots } from "./snapshots.ts";
import { formatReport } from "./table.ts";

export interface CommandContext {
  print: (text: string) => void;
  /** What is being done, for people who wait. */
  progress: (line: string) => void;
  sizes?: Sizes;
  /** How busy the machine is; tests say what they want. */
  load?: () => number;
}

/**
 * Resolves with the exit code: 1 if something went wrong or a check failed. A target that is missed, and
 * what a missing tool keeps from being measured, is said and is no failure.
 */
export async function runCommand(options: BenchOptions, context: CommandContext): Promise<number> {
  const { print } = context;
  if (options.what === "help") print(help);
  else if (options.what === "snapshots") await measureSnapshots(options.form, print);
  else if (options.what === "micro") print(formatMicro(await runMicroBenches(options)));
  else if (options.flame !== undefined) {
    await writeFlameGraphs({ ...options, directory: options.flame }, print);
  } else return await figures(options, context);
  return 0;
}

async function figures(options: BenchOptions, context: CommandContext): Promise<number> {
  const { print, progress, sizes } = context;
  // Read first: a wrong file name should not cost a run.
  const recorded = options.check === undefined ? undefined : await readRecorded(options.check);
  const only = options.only ?? (recorded && figuresOf(recorded));
  const report = await runFigures({ ...options, only, progress }, sizes);
  print(formatReport(report));
  await writeFiles(report, options);
  const hasFailed = report.figures.some(({ failed }) => failed);
  const passed = recorded === undefined || (await check(report, { recorded, options, context }));
  return hasFailed || !passed ? 1 : 0;
}

/** What looks bad is measured once more: a busy moment is no reason to fail, nor is a busy machine. */
async function check(
  report: BenchReport,
  how: { recorded: Recorded; options: BenchOptions; context: CommandContext },
): Promise<boolean> {
  const { recorded, options, context } = how;
  const { print, progress, sizes, load = loadPerCore } = context;
  const say = (lines: readonly string[]) => {
    for (const line of lines) print(`check: ${line}`);
  };
  const first = checkReport(report, recorded);
  say(first.lines);
  let failed = first.failed;
  if (failed.length > 0) {
    say(["measured again"]);
    const again = await runFigures({ ...options, only: failed, progress }, sizes);
    print(formatReport(again));
    const second = checkReport(again, recorded);
    say(second.lines);
    failed = second.failed;
  }
  const verdict = verdictOf(failed, load());
  print(`check ${verdict}: ${first.compared} of ${recorded.size} recorded ratios compared`);
  return verdict !== "FAILED";
}

async function writeFiles(report: BenchReport, options: BenchOptions): Promise<void> {
  const { out, json, svg } = options;
  if (out !== undefined) await mkdir(out, { recursive: true });
  const files = (name: string, one: string | undefined) => [
    ...(one === undefined ? [] : [one]),
    ...(out === undefined ? [] : [join(out, name)]),
  ];
  for (const file of files("bench.json", json)) {
    await writeFile(file, `${JSON.stringify(report, undefined, 2)}\n`);
  }
  for (const file of files("bench.svg", svg)) await writeFile(file, barChart(report));
}
