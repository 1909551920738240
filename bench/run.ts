import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { Bench, type BenchSettings, type Figure, NotMeasured } from "./bench.ts";
import { allFigures, byPhase } from "./figures/all.ts";
import { describeMachine } from "./machine.ts";
import type { BenchOptions } from "./options.ts";
import type { BenchReport, FigureReport } from "./report.ts";

const forms = {
  quick: { turnMs: 300, diskBytes: 2 ** 29 },
  full: { turnMs: 3000, diskBytes: 2 ** 30 },
};

type RunOptions = Pick<BenchOptions, "form" | "rounds" | "only" | "scratch"> & {
  progress: (line: string) => void;
};

/** Measures the figures that are asked for, on servers and disks that are gone afterwards. */
export async function runFigures(
  options: RunOptions,
  sizes: Partial<Pick<BenchSettings, "turnMs" | "diskBytes">> = {},
): Promise<BenchReport> {
  const { form, rounds, only, progress } = options;
  const wanted = allFigures.filter((figure) => isWanted(figure, only));
  if (wanted.length === 0) throw new Error(`no figure's name or id has "${only}"`);
  const scratch = await mkdtemp(join(options.scratch, "kelpie-bench-"));
  const settings = { ...forms[form], ...sizes, form, rounds, scratch, progress };
  const bench = new Bench(settings);
  const stop = async () => {
    await bench.close();
    await rm(scratch, { recursive: true, force: true });
  };
  const interrupted = (signal: NodeJS.Signals) => {
    progress(`${signal}: stops the servers`);
    void stop().finally(() => process.exit(130));
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.once(signal, interrupted);
  try {
    const reports = new Map<Figure, FigureReport>();
    for (const figure of byPhase(wanted)) reports.set(figure, await measure(figure, bench, only));
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

function isWanted({ id, name }: Figure, only: string | undefined): boolean {
  const pattern = only?.toLowerCase() ?? "";
  return id.includes(pattern) || name.toLowerCase().includes(pattern);
}

async function measure(
  figure: Figure,
  bench: Bench,
  only: string | undefined,
): Promise<FigureReport> {
  const { id, name, target } = figure;
  const { form, progress } = bench.settings;
  const startMs = performance.now();
  const seconds = () => (performance.now() - startMs) / 1000;
  try {
    if (figure.phase === "minutes" && form === "quick" && only === undefined) {
      throw new NotMeasured(`it takes minutes; with --quick only by --only ${id}`);
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
