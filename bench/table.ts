import { median } from "./growth/samples.ts";
import type { BenchReport, Comparison, FigureReport, Target } from "./report.ts";
import { isMet, ratioOf } from "./report.ts";

const heads = ["figure", "Kelpie", "beside", "ratio", "target", "met"] as const;
type Row = readonly [string, string, string, string, string, string];
/** Longer texts go on in the next line. */
const columnsMax = [44, 20, 34, 20, 26, 34] as const;

/** What people read: the machine, a table with a line for each ratio, and what is to be said about it. */
export function formatReport(report: BenchReport): string {
  const rows = report.figures.flatMap(rowsOf).map((row) => row.map(wrapped));
  const widths = heads.map((head, at) =>
    Math.max(head.length, ...rows.flatMap((row) => row[at]?.map(({ length }) => length) ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join("  ")
      .trimEnd();
  const linesOf = (row: readonly string[][]) => {
    const height = Math.max(...row.map((cell) => cell.length));
    return Array.from({ length: height }, (_, at) => line(row.map((cell) => cell[at] ?? "")));
  };
  const rule = line(widths.map((width) => "-".repeat(width)));
  const table = [line(heads), rule, ...rows.flatMap(linesOf)].join("\n");
  const parts = [machineText(report), table, summaryOf(report.figures), notesText(report.figures)];
  return parts.filter((part) => part !== "").join("\n\n");
}

function wrapped(text: string, column: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (longer.length > (columnsMax[column] ?? 0) && line !== "") {
      lines.push(line);
      line = word;
    } else {
      line = longer;
    }
  }
  return [...lines, line];
}

function rowsOf(figure: FigureReport): Row[] {
  const { name, target, notMeasured, verdict } = figure;
  if (notMeasured !== undefined) {
    return [[name, "-", "", "", target, `not measured: ${notMeasured}`]];
  }
  const rows = figure.comparisons.map((comparison): Row => {
    const { beside, unit, ours, theirs } = comparison;
    const wanted = targetText(comparison.target);
    if (comparison.notMeasured !== undefined) {
      return [name, "-", beside, "", wanted, `not measured: ${comparison.notMeasured}`];
    }
    return [
      name,
      valueText(median(ours), unit),
      `${beside} ${valueText(median(theirs), unit)}`,
      ratioText(comparison),
      wanted,
      metText(isMet(comparison)),
    ];
  });
  if (verdict === undefined) return rows;
  const measured = isShort(verdict.measured) ? verdict.measured : "below";
  return [...rows, [name, measured, "", "", target, metText(verdict.met)]];
}

function isShort(measured: string): boolean {
  return measured.length <= columnsMax[1];
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

/** One figure is met if all its ratios are. */
function summaryOf(figures: readonly FigureReport[]): string {
  const counts = { met: 0, missed: 0, not: 0 };
  for (const { comparisons, verdict, notMeasured } of figures) {
    const met = [...comparisons.map(isMet), verdict?.met];
    if (met.includes(false)) counts.missed++;
    else if (notMeasured !== undefined || comparisons.some((one) => one.notMeasured)) counts.not++;
    else counts.met++;
  }
  return `${counts.met} met, ${counts.missed} missed, ${counts.not} not measured`;
}

function notesText(figures: readonly FigureReport[]): string {
  return figures
    .flatMap(({ name, verdict, notes = [] }) => {
      const long = verdict !== undefined && !isShort(verdict.measured) ? [verdict.measured] : [];
      return [...long, ...notes].map((note) => `* ${name}: ${note}`);
    })
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
