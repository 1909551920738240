import type { GrowthReport, GrowthRow } from "./growth.ts";

/** Markdown, one table by size and one by the number of snapshots: a column for each row of results. */
export function formatTables(report: GrowthReport): string {
  const bySize = report.rows.filter(({ by }) => by === "size");
  const bySnapshots = report.rows.filter(({ by }) => by === "snapshots");
  const tables: string[] = [];
  if (bySize.length > 0) {
    const heads = bySize.map(({ sizeBytes }) => sizeText(sizeBytes));
    tables.push(table("mapped data", heads, bySize));
  }
  if (bySnapshots.length > 0) {
    const heads = bySnapshots.map(({ snapshots }) => snapshots.toLocaleString("en"));
    tables.push(table("snapshots", heads, bySnapshots));
  }
  return tables.join("\n\n");
}

function table(corner: string, heads: readonly string[], rows: readonly GrowthRow[]): string {
  const lines = [
    line([corner, ...heads]),
    line(["---", ...heads.map(() => "---:")]),
    ...figures(rows).map(({ what, cells }) => line([what, ...cells])),
  ];
  return lines.join("\n");
}

interface Line {
  what: string;
  cells: string[];
}

function figures(rows: readonly GrowthRow[]): Line[] {
  const each = (what: string, cell: (row: GrowthRow) => string): Line => ({
    what,
    cells: rows.map(cell),
  });
  const operations = rows[0]?.costs.map(({ what }) => what) ?? [];
  return [
    each("open, ms", ({ open }) => number(open.ms)),
    each("first read after it, ms", ({ open }) => number(open.firstReadMs)),
    ...operations.map((what) =>
      each(`${what}, ms (range; reads + records)`, ({ costs }) => costText(costs, what)),
    ),
    each("delete snapshots and disk: how many", ({ end }) => String(end.deleted)),
    each("… answered after, ms", ({ end }) => number(end.ms)),
    each("… space counted free after, s", ({ end }) => seconds(end.purgeMs)),
    each("… processor time of it, s", ({ end }) => seconds(end.cpuMs)),
    each("… longest stall, ms", ({ end }) => number(end.stallMs)),
    each("scan of all maps, s", ({ mapScan }) => seconds(mapScan.ms)),
    each("maps on disk, MB", ({ mapScan }) => megabytes(mapScan.mapBytes)),
    each("one block of each snapshot, ms", ({ walk }) => number(walk.ms)),
    each("RSS before opening, MB", ({ open }) => megabytes(open.before.rssBytes)),
    each("RSS after opening, MB", ({ open }) => megabytes(open.after.rssBytes)),
    each("RSS after these operations, MB", ({ afterOperations }) =>
      megabytes(afterOperations.rssBytes),
    ),
    each("RSS after random reads, MB", ({ afterReads }) => megabytes(afterReads.rssBytes)),
    each("RSS after a block of each snapshot, MB", ({ walk }) => megabytes(walk.after.rssBytes)),
  ];
}

function costText(costs: GrowthRow["costs"], wanted: string): string {
  const cost = costs.find(({ what }) => what === wanted);
  if (cost === undefined) return "";
  const from = cost.leastMs === undefined ? "to " : `${number(cost.leastMs)}-`;
  const range = `${from}${number(cost.worstMs)}`;
  return `${number(cost.ms)} (${range}; ${cost.reads} + ${cost.records})`;
}

export function sizeText(bytes: number): string {
  const gibibytes = bytes / 2 ** 30;
  return gibibytes >= 1024 ? `${gibibytes / 1024} TiB` : `${gibibytes} GiB`;
}

function number(value: number | undefined): string {
  if (value === undefined) return "";
  return value < 0.1 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0);
}

function seconds(ms: number | undefined): string {
  return ms === undefined ? "" : (ms / 1000).toFixed(1);
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}
