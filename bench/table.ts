import { median } from "./growth/samples.ts";
import type { BenchReport, Comparison, FigureReport, Target } from "./report.ts";
import { isMet, ratioOf } from "./report.ts";

const heads = ["figure", "Kelpie", "beside", "ratio", "target", "met"] as const;
type Row = readonly [string, string, string, string, string, string];
/** Longer texts get lines of their own below the table's. */
const columnMax = 66;

/** What people read: the machine, a table with a line for each ratio, and what is to be said about it. */
export function formatReport(report: BenchReport): string {
  const rows = report.figures.flatMap(rowsOf);
  const widths = heads.map((head, at) =>
    Math.min(columnMax, Math.max(head.length, ...rows.map((row) => row[at]?.length ?? 0))),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join("  ")
      .trimEnd();
  const table = [line(heads), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)];
  return [machineText(report), table.join("\n"), notesText(report.figures)]
    .filter((part) => part !== "")
    .join("\n\n");
}

function rowsOf(figure: FigureReport): Row[] {
  const { name, target, notMeasured, verdict } = figure;
  if (notMeasured !== undefined)
    return [[name, "-", "", "", target, `not measured: ${notMeasured}`]];
  const rows = figure.comparisons.map((comparison): Row => {
    if (comparison.notMeasured !== undefined) {
      const why = `not measured: ${comparison.notMeasured}`;
      return [name, "-", comparison.beside, "", targetText(comparison.target), why];
    }
    return [
      name,
      valueText(median(comparison.ours), comparison.unit),
      `${comparison.beside} ${valueText(median(comparison.theirs), comparison.unit)}`,
      ratioText(comparison),
      targetText(comparison.target),
      metText(isMet(comparison)),
    ];
  });
  if (verdict === undefined) return rows;
  return [...rows, [name, verdict.measured, "", "", target, metText(verdict.met)]];
}

function metText(met: boolean | undefined): string {
  return met === undefined ? "" : met ? "met" : "MISSED";
}

export function targetText(target: Target | undefined): string {
  if (target === undefined) return "none";
  return "atLeast" in target ? `>= ${target.atLeast}` : `< ${target.under}`;
}

/** The median, and how far the rounds were apart. */
function ratioText(comparison: Comparison): string {
  const { ours, theirs } = comparison;
  const ratios = ours.map((value, round) => value / (theirs[round] ?? Number.NaN));
  const [low, high] = [Math.min(...ratios), Math.max(...ratios)];
  const middle = ratioOf(comparison).toFixed(2);
  return ratios.length > 1 ? `${middle} (${low.toFixed(2)}-${high.toFixed(2)})` : middle;
}

function valueText(value: number, unit: string): string {
  const number = value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
  return unit.startsWith("/") ? `${number}${unit}` : `${number} ${unit}`;
}

function notesText(figures: readonly FigureReport[]): string {
  return figures
    .flatMap(({ name, notes = [] }) => notes.map((note) => `${name}: ${note}`))
    .join("\n");
}

function machineText({ machine, form, rounds, diskBytes }: BenchReport): string {
  const { cores, processor, memoryBytes, kernel, node, tools } = machine;
  const gibibytes = (bytes: number) => `${Number((bytes / 2 ** 30).toPrecision(2))} GiB`;
  const disks = `disks of ${gibibytes(diskBytes)}, median of ${rounds} rounds`;
  return [
    `${cores} cores (${processor}), ${gibibytes(memoryBytes)} memory, Linux ${kernel}, Node ${node}`,
    ...Object.values(tools),
    `${form} form: ${disks}`,
  ].join("\n");
}
