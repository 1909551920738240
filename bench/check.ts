import { readFile } from "node:fs/promises";
import { z } from "zod";
import { type BenchReport, type Comparison, ratioKey, ratioOf, type Target } from "./report.ts";

/** What a check needs of a report that was written down. */
const recordedReport = z.object({
  figures: z.array(
    z.object({
      id: z.string(),
      comparisons: z.array(
        z.object({
          beside: z.string(),
          unit: z.string(),
          ours: z.array(z.number()),
          theirs: z.array(z.number()),
          target: z
            .union([z.object({ atLeast: z.number() }), z.object({ under: z.number() })])
            .optional(),
          notMeasured: z.string().optional(),
        }),
      ),
    }),
  ),
});

/** Ratio by key, with the target that says which way is worse. */
export type Recorded = Map<string, { figure: string; ratio: number; target: Target }>;

/** Machines differ, and are busy: only what is this many times worse than it once was is an error. */
const worseMax = 2;

/**
 * Above this load of each processor a ratio says how the system shares them out, and not how fast a server
 * is: at seven, random writes beside qemu-nbd, which has more threads, were at a third of their ratio.
 */
const loadMax = 4;

export async function readRecorded(file: string): Promise<Recorded> {
  return recordedOf(recordedReport.parse(JSON.parse(await readFile(file, "utf8"))));
}

export function recordedOf(report: {
  figures: readonly { id: string; comparisons: readonly Comparison[] }[];
}): Recorded {
  const recorded: Recorded = new Map();
  for (const figure of report.figures) {
    for (const comparison of figure.comparisons) {
      const { target, notMeasured } = comparison;
      if (target === undefined || notMeasured !== undefined) continue;
      const ratio = ratioOf(comparison);
      recorded.set(ratioKey(figure, comparison), { figure: figure.id, ratio, target });
    }
  }
  return recorded;
}

/** By their ids. */
export function figuresOf(recorded: Recorded): string[] {
  return [...new Set([...recorded.values()].map(({ figure }) => figure))];
}

export interface CheckResult {
  /** Of the figures in which a ratio is too bad. */
  failed: string[];
  /** One for each of these ratios, and one for what was not compared. */
  lines: string[];
  compared: number;
}

/** Ratios that were not recorded, or are not measured now, are no failure. */
export function checkReport(report: Pick<BenchReport, "figures">, recorded: Recorded): CheckResult {
  const now = recordedOf(report);
  const result: CheckResult = { failed: [], lines: [], compared: 0 };
  for (const figure of report.figures) {
    for (const comparison of figure.comparisons) {
      const key = ratioKey(figure, comparison);
      const [before, current] = [recorded.get(key), now.get(key)];
      if (before === undefined || current === undefined) continue;
      result.compared++;
      const worse =
        "atLeast" in before.target ? before.ratio / current.ratio : current.ratio / before.ratio;
      if (worse <= worseMax) continue;
      if (!result.failed.includes(figure.id)) result.failed.push(figure.id);
      const was = `${current.ratio.toFixed(2)}, and was ${before.ratio.toFixed(2)}`;
      result.lines.push(`${figure.name}, beside ${comparison.beside}: the ratio is ${was}`);
    }
  }
  const ids = new Set(report.figures.map(({ id }) => id));
  const missing = [...recorded]
    .filter(([key, { figure }]) => ids.has(figure) && !now.has(key))
    .map(([key]) => key);
  if (missing.length > 0)
    result.lines.push(`recorded, but not measured now: ${missing.join("; ")}`);
  return result;
}

/** Of the figures that are too bad, and how busy the machine is: processes that want each processor. */
export function verdictOf(failed: readonly string[], load: number): string {
  if (failed.length === 0) return "passed";
  return load > loadMax
    ? `not decided, at a load of ${load.toFixed(1)} for each processor`
    : "FAILED";
}
