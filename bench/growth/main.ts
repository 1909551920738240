/**
 * How cost grows: with the size of a disk, and with the number of its snapshots. Prints tables, and writes
 * results and plots.
 *
 *     node bench/growth/main.ts [--quick] [--sizes 1,10,100,1024] [--snapshots 1,100,1000,10000] [--out DIR]
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { runTool } from "../../test/support/tools.ts";
import type { MapScan } from "./map-scan.ts";
import type { Cost, EndCost, Memory, OpenCost, Walk } from "./operations.ts";
import { writePlots } from "./plots.ts";
import { runChild } from "./run-child.ts";
import { formatTables } from "./tables.ts";

export interface GrowthOptions {
  /** Of disks, in GiB. */
  sizes: number[];
  /** How many, on a disk of 10 GiB. */
  snapshots: number[];
  /** Of each operation; the median counts. */
  samples: number;
  /** Scratch space: some 10 GiB for the largest. A directory of its own is made in it. */
  scratch: string;
  progress?: (line: string) => void;
}

/** One disk of one size with a number of snapshots: a row of the tables, a point of the plots. */
export interface GrowthRow {
  by: "size" | "snapshots";
  sizeBytes: number;
  snapshots: number;
  /** To write the disk, or to take the snapshots since the row before. */
  buildMs: number;
  open: OpenCost;
  costs: Cost[];
  /** After all those operations, and after random reads of the whole disk. */
  afterOperations: Memory;
  afterReads: Memory;
  mapScan: MapScan;
  /** One block of each snapshot read. */
  walk: Walk;
  end: EndCost;
}

export interface GrowthReport {
  rows: GrowthRow[];
}

export const fullSizes = [1, 10, 100, 1024];
export const fullSnapshots = [1, 100, 1000, 10_000];
export const quickSizes = [1, 10];
export const quickSnapshots = [1, 100];

const gibibyte = 2 ** 30;
const historyBytes = 10 * gibibyte;
/** Random blocks written before each snapshot. */
const writesEach = 10;
const readsMs = 10_000;
const name = "disk";

export async function runGrowth(options: GrowthOptions): Promise<GrowthReport> {
  const rows: GrowthRow[] = [];
  for (const size of options.sizes) {
    rows.push(
      await withScratch(options, async (directory) => {
        const sizeBytes = size * gibibyte;
        const startMs = performance.now();
        await runChild("build", { directory, name, sizeBytes });
        const buildMs = performance.now() - startMs;
        await runChild("grow", { directory, name, snapshots: 1, writesEach });
        return measureRow(directory, options, { by: "size", sizeBytes, snapshots: 1, buildMs });
      }),
    );
  }
  if (options.snapshots.length > 0) {
    await withScratch(options, async (directory) => {
      await runChild("build", { directory, name, sizeBytes: historyBytes });
      for (const snapshots of options.snapshots) {
        const input = { directory, name, snapshots, writesEach };
        const { ms } = await runChild<{ ms: number }>("grow", input);
        // What is measured changes the store: that is done to a copy.
        const copy = `${directory}-copy`;
        await runTool("cp", ["-a", "--sparse=auto", directory, copy]);
        const about = { by: "snapshots", sizeBytes: historyBytes, snapshots, buildMs: ms } as const;
        rows.push(await measureRow(copy, options, about));
        await rm(copy, { recursive: true });
      }
    });
  }
  return { rows };
}

async function measureRow(
  directory: string,
  options: GrowthOptions,
  about: Pick<GrowthRow, "by" | "sizeBytes" | "snapshots" | "buildMs">,
): Promise<GrowthRow> {
  const { samples, progress } = options;
  progress?.(`${about.sizeBytes / gibibyte} GiB, ${about.snapshots} snapshots`);
  const disk = { directory, name };
  // Those that change nothing first.
  const open = await runChild<OpenCost>("open", disk);
  const walk = await runChild<Walk>("walk", disk);
  const mapScan = await runChild<MapScan>("mapScan", disk);
  const afterReads = await runChild<Memory>("reads", { ...disk, runtimeMs: readsMs });
  const { costs, memory } = await runChild<{ costs: Cost[]; memory: Memory }>("operations", {
    ...disk,
    samples,
  });
  const end = await runChild<EndCost>("end", disk);
  return { ...about, open, costs, afterOperations: memory, afterReads, mapScan, walk, end };
}

async function withScratch<T>(
  options: GrowthOptions,
  action: (directory: string) => Promise<T>,
): Promise<T> {
  const scratch = await mkdtemp(join(options.scratch, "kelpie-growth-"));
  try {
    return await action(join(scratch, "store"));
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** The command: rows that were measured before and are not measured again stay in the results. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      sizes: { type: "string" },
      snapshots: { type: "string" },
      out: { type: "string" },
      scratch: { type: "string", default: tmpdir() },
    },
  });
  const { quick, scratch } = values;
  const report = await runGrowth({
    sizes: numbers(values.sizes) ?? (quick ? quickSizes : fullSizes),
    snapshots: numbers(values.snapshots) ?? (quick ? quickSnapshots : fullSnapshots),
    samples: quick ? 5 : 9,
    scratch,
    progress: (line) => console.error(line),
  });
  const all = values.out === undefined ? report : await merge(resolve(values.out), report);
  console.log(formatTables(all));
}

/** Adds to the results in a directory, and draws all of them. */
async function merge(directory: string, report: GrowthReport): Promise<GrowthReport> {
  await mkdir(directory, { recursive: true });
  const file = join(directory, "growth.json");
  const before = await readFile(file, "utf8").catch(() => '{ "rows": [] }');
  const key = (row: GrowthRow) => `${row.by} ${row.sizeBytes} ${row.snapshots}`;
  const rows = new Map<string, GrowthRow>();
  for (const row of (JSON.parse(before) as GrowthReport).rows) rows.set(key(row), row);
  for (const row of report.rows) rows.set(key(row), row);
  const all = {
    rows: [...rows.values()].sort(
      (a, b) => a.by.localeCompare(b.by) || a.sizeBytes - b.sizeBytes || a.snapshots - b.snapshots,
    ),
  };
  await writeFile(file, `${JSON.stringify(all, undefined, 2)}\n`);
  await writePlots(directory, all);
  return all;
}

function numbers(list: string | undefined): number[] | undefined {
  if (list === undefined) return undefined;
  return list.split(",").filter(Boolean).map(Number);
}

if (import.meta.main) await main();
