import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { Bench, type BenchSettings, type Figure, NotMeasured } from "./bench.ts";
import { allFigures, byPhase } from "./figures/all.ts";
import { describeMachine } from "./machine.ts";
import type { BenchOptions } from "./options.ts";
import type { BenchReport, FigureReport } from "./report.ts";

const forms = {
  // A cold first round is one of three or five: the median does not see it.
  quick: { turnMs: 250, diskBytes: 2 ** 29, warmUp: false },
  full: { turnMs: 1500, diskBytes: 2 ** 30, warmUp: true },
};

/** Tests make everything smaller. */
export type Sizes = Partial<Pick<BenchSettings, "turnMs" | "diskBytes">>;

export type RunOptions = Pick<BenchOptions, "form" | "rounds" | "only" | "scratch"> & {
  progress: (line: string) => void;
};

/** Measures the figures that are asked for, on servers and disks that are gone afterwards. */
export async function runFigures(options: RunOptions, sizes: Sizes = {}): Promise<BenchReport> {
  const { form, rounds, only, progress } = options;
  const wanted = allFigures.filter((figure) => isWanted(figure, only));
  if (wanted.length === 0) throw new Error(`no figure's name or id has "${only?.join(", ")}"`);
  const scratch = await mkdtemp(join(options.scratch, "kelpie-bench-"));
  const settings = { ...forms[form], ...sizes, form, rounds, scratch, progress };
  const bench = new Bench(settings);
  const stop = async () => {
    try {
      await bench.close();
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  };
  const interrupted = (signal: NodeJS.Signals) => {
    progress(`${signal}: stops the servers`);
    void stop().finally(() => process.exit(130));
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.once(signal, interrupted);
  try {
    const reports = new Map<Figure, FigureReport>();
    for (const figure of byPhase(wanted)) {
      reports.set(figure, await measureTwice(figure, bench, only));
    }
    return {
      machine: await describeMachine(),
      form,
      rounds,
      diskBytes: settings.diskBytes,
      figures: wanted.flatMap((figure) => reports.get(figure) ?? []),
    };
  } finally {
    for (const signal of signals) process.off(signal, interrupted);
    await stop();
  }
}

function isWanted({ id, name }: Figure, only: readonly string[] = [""]): boolean {
  const patterns = only.map((pattern) => pattern.toLowerCase());
  return patterns.some((one) => id.includes(one) || name.toLowerCase().includes(one));
}

/** What went wrong is tried once more and said: the machine may have stood still, or there is a defect. */
async function measureTwice(
  figure: Figure,
  bench: Bench,
  only: readonly string[] | undefined,
): Promise<FigureReport> {
  const report = await measure(figure, bench, only);
  if (report.failed !== true) return report;
  bench.settings.progress(`once more, for it failed: ${report.notMeasured}`);
  const again = await measure(figure, bench, only);
  return { ...again, notes: [...(again.notes ?? []), `at first it failed: ${report.notMeasured}`] };
}

async function measure(
  figure: Figure,
  bench: Bench,
  only: readonly string[] | undefined,
): Promise<FigureReport> {
  const { id, name, target } = figure;
  const { form, progress } = bench.settings;
  const startMs = performance.now();
  const seconds = () => (performance.now() - startMs) / 1000;
  try {
    if (figure.fullOnly === true && form === "quick" && only === undefined) {
      throw new NotMeasured(`not in the quick form; --only ${id}`);
    }
    progress(name);
    const measurement = await figure.measure(bench);
    return { id, name, target, ...measurement, seconds: seconds() };
  } catch (error) {
    // One figure that cannot be measured does not keep the others from being.
    const notMeasured = error instanceof Error ? error.message : String(error);
    const failed = !(error instanceof NotMeasured);
    return { id, name, target, comparisons: [], notMeasured, failed, seconds: seconds() };
  }
}
