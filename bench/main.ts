import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Bench, type BenchSettings, type Figure, NotMeasured } from "./bench.ts";
import { besidePeers } from "./figures/beside-peers.ts";
import { describeMachine } from "./machine.ts";
import type { BenchReport, FigureReport } from "./report.ts";
import { formatReport } from "./table.ts";

async function measure(figure: Figure, bench: Bench): Promise<FigureReport> {
  const { id, name, target } = figure;
  bench.settings.progress(name);
  const startMs = performance.now();
  const seconds = () => (performance.now() - startMs) / 1000;
  try {
    return { id, name, target, ...(await figure.measure(bench)), seconds: seconds() };
  } catch (error) {
    const notMeasured = error instanceof Error ? error.message : String(error);
    const failed = !(error instanceof NotMeasured);
    return { id, name, target, comparisons: [], notMeasured, failed, seconds: seconds() };
  }
}
const quick = process.argv.includes("--quick");
const only = process.argv[process.argv.indexOf("--only") + 1];
const scratch = await mkdtemp(join(tmpdir(), "kelpie-bench-"));
const settings: BenchSettings = {
  form: quick ? "quick" : "full",
  rounds: quick ? 3 : 5,
  turnMs: quick ? 300 : 2000,
  diskBytes: quick ? 2 ** 29 : 2 ** 30,
  scratch,
  progress: (line) => console.error(line),
};
try {
  await using bench = new Bench(settings);
  const figures: FigureReport[] = [];
  for (const figure of besidePeers) {
    if (process.argv.includes("--only") && !figure.id.includes(only ?? "")) continue;
    figures.push(await measure(figure, bench));
  }
  const { form, rounds, diskBytes } = settings;
  const report: BenchReport = {
    machine: await describeMachine(),
    form,
    rounds,
    diskBytes,
    figures,
  };
  console.log(formatReport(report));
} finally {
  await rm(scratch, { recursive: true });
}
