import type { TestFileResult } from "./test-file.ts";
import type { TestReport } from "./test-reporter.ts";

/**
 * One line for a file that passed, and the figures that it tells; for one that failed, with what
 * failed and what it printed.
 */
export function describeFile(result: TestFileResult): string {
  const { path, durationMs, reports, complaint, output } = result;
  const count = reports.filter(({ suite }) => !suite).length;
  const failures = reports.filter(isFailure);
  const good = failures.length === 0 && complaint === undefined;
  const lines = [
    `${good ? "✔" : "✖"} ${path} (${count} tests, ${(durationMs / 1000).toFixed(1)} s)`,
  ];
  if (good) return [...lines, ...toldLines(output)].join("\n");
  if (complaint !== undefined) lines.push(`  ✖ ${complaint}`);
  for (const { name, error } of failures) lines.push(`  ✖ ${name}`, indent(error));
  if (output.trim() !== "") lines.push("  what it printed:", indent(output.trimEnd()));
  return lines.join("\n");
}

/** Figures that a test has to tell, also when it passes: lines that begin so. */
function toldLines(output: string): string[] {
  return output.split("\n").filter((line) => line.startsWith("» "));
}

/** What was skipped and why, what failed, and the counts: in Node's form, then on one last line. */
export function summarize(
  results: readonly TestFileResult[],
  durationMs: number,
): { text: string; exitCode: number } {
  const counts = countReports(results);
  const failed = counts.fail + counts.cancelled;
  const lines = [
    ...skippedLines(results),
    ...failedLines(results),
    "",
    ...Object.entries(counts).map(([name, count]) => `ℹ ${name} ${count}`),
    `ℹ duration_ms ${Math.round(durationMs)}`,
    `${counts.pass} passed, ${failed} failed, ${counts.skipped} skipped`,
  ];
  return { text: lines.join("\n"), exitCode: failed === 0 ? 0 : 1 };
}

function countReports(results: readonly TestFileResult[]) {
  const reports = results.flatMap((result) => result.reports);
  const tests = reports.filter(({ suite }) => !suite);
  // A file that fails as a whole, and a suite whose hook fails, count as a failed test each.
  const complaints = results.filter(({ complaint }) => complaint !== undefined).length;
  const suiteFailures = reports.filter((report) => report.suite && isFailure(report)).length;
  const failures = tests.filter((test) => isFailure(test) && !test.cancelled).length;
  return {
    tests: tests.length + complaints + suiteFailures,
    suites: reports.length - tests.length,
    pass: tests.filter((test) => test.event === "pass" && test.skip === null && !test.todo).length,
    fail: failures + complaints + suiteFailures,
    cancelled: tests.filter(({ cancelled }) => cancelled).length,
    skipped: tests.filter(({ skip }) => skip !== null).length,
    todo: tests.filter(({ todo, skip }) => todo && skip === null).length,
  };
}

/** By reason, and what to install for those that lack a tool. */
function skippedLines(results: readonly TestFileResult[]): string[] {
  const byReason = new Map<string, string[]>();
  for (const { path, reports } of results) {
    for (const { name, skip } of reports) {
      if (skip === null) continue;
      const reason = skip === "" ? "no reason given" : skip;
      byReason.set(reason, [...(byReason.get(reason) ?? []), `${path}: ${name}`]);
    }
  }
  if (byReason.size === 0) return [];
  const lines = ["", "Skipped:"];
  for (const [reason, tests] of byReason) lines.push(`  ${reason}`, indent(tests.join("\n")));
  const packages = [...byReason.keys()].flatMap(
    (reason) => /\(Debian package ([\w.+-]+)\)/.exec(reason)?.[1] ?? [],
  );
  if (packages.length === 0) return lines;
  const unique = [...new Set(packages)].sort().join(" ");
  return [...lines, `  To run these too: apt-get install --no-install-recommends ${unique}`];
}

function failedLines(results: readonly TestFileResult[]): string[] {
  const lines = results.flatMap(({ path, reports, complaint }) => [
    ...(complaint === undefined ? [] : [`${path}: ${complaint}`]),
    ...reports.filter(isFailure).map(({ name }) => `${path}: ${name}`),
  ]);
  return lines.length === 0 ? [] : ["", "Failed:", indent(lines.join("\n"))];
}

/** A suite also fails when a test in it does: that one is named already. */
function isFailure({ event, suite, todo, error }: TestReport): boolean {
  if (event !== "fail" || todo) return false;
  return !(suite && /^'?\d+ subtests? failed/.test(error));
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "    ");
}
