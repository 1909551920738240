/** npm run bench: see options.ts for what it can do, docs/performance.md for what it means. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { barChart } from "./bar-chart.ts";
import { checkReport, type Recorded, readRecorded } from "./check.ts";
import { formatMicro, runMicroBenches } from "./micro/all.ts";
import { type BenchOptions, help, parseOptions } from "./options.ts";
import type { BenchReport } from "./report.ts";
import { runFigures } from "./run.ts";
import { measureSnapshots } from "./snapshots.ts";
import { formatReport } from "./table.ts";

try {
  process.exitCode = await main(parseOptions(process.argv.slice(2)));
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

async function main(options: BenchOptions): Promise<number> {
  if (options.what === "help") console.log(help);
  else if (options.what === "snapshots") await measureSnapshots(options.form);
  else if (options.what === "micro") console.log(formatMicro(await runMicroBenches(options)));
  else return await figures(options);
  return 0;
}

/** 1 if something went wrong or a check failed; a target that is missed, or a tool, is only said. */
async function figures(options: BenchOptions): Promise<number> {
  const startMs = performance.now();
  // Read first: a wrong file name should not cost a run.
  const recorded = options.check === undefined ? undefined : await readRecorded(options.check);
  const progress = (line: string) => {
    console.error(`${((performance.now() - startMs) / 1000).toFixed(0).padStart(4)} s  ${line}`);
  };
  const report = await runFigures({ ...options, progress });
  console.log(formatReport(report));
  await writeFiles(report, options);
  const hasFailed = report.figures.some(({ failed }) => failed);
  const passed = recorded === undefined || (await check(report, recorded, { options, progress }));
  return hasFailed || !passed ? 1 : 0;
}

/** What looks bad is measured once more: a busy moment is no reason to fail. */
async function check(
  report: BenchReport,
  recorded: Recorded,
  how: { options: BenchOptions; progress: (line: string) => void },
): Promise<boolean> {
  let result = checkReport(report, recorded);
  const compared = result.compared;
  for (const line of result.lines) console.log(`check: ${line}`);
  if (result.failed.length > 0) {
    console.log("check: measured again");
    const figures = [];
    for (const only of result.failed) {
      figures.push(...(await runFigures({ ...how.options, only, progress: how.progress })).figures);
    }
    const again = { ...report, figures };
    console.log(formatReport(again));
    result = checkReport(again, recorded);
    for (const line of result.lines) console.log(`check: ${line}`);
  }
  const passed = result.failed.length === 0;
  console.log(`check ${passed ? "passed" : "FAILED"}: ${compared} ratios compared`);
  return passed;
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
