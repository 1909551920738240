import { type Bench, type Figure, NotMeasured } from "../bench.ts";
import { type GrowthFigure, growthFigures } from "../growth/figures.ts";
import type { Measurement } from "../report.ts";
import { missingTools } from "../tools.ts";

/** What grows with a disk, its history or its use, on stores of their own. In the order of growthFigures. */
const ids = ["branch", "snapshot-depth", "unclean-open", "gateway-memory"];

export const growth: Figure[] = growthFigures.map((figure, at) => ({
  id: `growth-${ids[at] ?? at}`,
  name: figure.name,
  target: figure.target,
  phase: "own store",
  fullOnly: true,
  measure: (bench) => measure(bench, figure),
}));

async function measure(bench: Bench, figure: GrowthFigure): Promise<Measurement> {
  const reason = missingTools(["fio"]);
  if (reason !== undefined) throw new NotMeasured(reason);
  const { form, scratch } = bench.settings;
  const { values, measured, met } = await figure.measure(form, scratch);
  return { comparisons: [], verdict: { values, measured, met } };
}
