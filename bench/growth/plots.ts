import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { GrowthReport, GrowthRow } from "./growth.ts";
import { linePlot, type Series } from "./line-plot.ts";
import { sizeText } from "./tables.ts";

/**
 * Two plots by size and two by the number of snapshots: memory, and the least milliseconds, if all results
 * have them: what is drawn is taken for what grows, and medians of a busy machine are not.
 */
export async function writePlots(directory: string, report: GrowthReport): Promise<void> {
  for (const by of ["size", "snapshots"] as const) {
    const rows = report.rows.filter((row) => row.by === by);
    if (rows.length < 2) continue;
    const axis = {
      label: by === "size" ? "mapped data" : "snapshots of a disk of 10 GiB",
      values: rows.map((row) => (by === "size" ? row.sizeBytes : row.snapshots)),
      ticks: rows.map((row) =>
        by === "size" ? sizeText(row.sizeBytes) : row.snapshots.toLocaleString("en"),
      ),
    };
    const plots: Record<string, { unit: string; series: Series[] }> = {
      operations: { unit: "milliseconds, the least of several", series: operationSeries(rows) },
      memory: { unit: "MB of memory (RSS)", series: memorySeries(rows) },
    };
    for (const [what, { unit, series }] of Object.entries(plots)) {
      if (what === "operations" && !rows.every(hasLeast)) continue;
      const title = what === "memory" ? "Memory of a process" : "Time of an operation";
      const svg = linePlot({ title, unit, axis, series });
      await writeFile(join(directory, `growth-${by}-${what}.svg`), svg);
    }
  }
}

function hasLeast({ costs }: GrowthRow): boolean {
  return costs.every(({ leastMs }) => leastMs !== undefined);
}

function operationSeries(rows: readonly GrowthRow[]): Series[] {
  const names = rows[0]?.costs.map(({ what }) => what) ?? [];
  const series = names
    // Of two lines on top of each other one says enough.
    .filter((name) => name !== "delete clone" && name !== "snapshot, dirty")
    .map((name) => ({
      name,
      values: rows.map(({ costs }) => costs.find(({ what }) => what === name)?.leastMs ?? 0),
    }));
  return [{ name: "open", values: rows.map(({ open }) => open.ms) }, ...series];
}

function memorySeries(rows: readonly GrowthRow[]): Series[] {
  const megabytes = (bytes: number) => bytes / 1e6;
  return [
    { name: "opened", values: rows.map(({ open }) => megabytes(open.after.rssBytes)) },
    {
      name: "random reads of the whole disk",
      values: rows.map(({ afterReads }) => megabytes(afterReads.rssBytes)),
    },
    {
      name: "one block read of each snapshot",
      values: rows.map(({ walk }) => megabytes(walk.after.rssBytes)),
    },
  ];
}
