import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "../../test/support/tools.ts";
import type { MapScan } from "./map-scan.ts";
import type { Cost, EndCost, Memory, OpenCost, Walk } from "./operations.ts";
import { runChild } from "./run-child.ts";

/** One disk of one size with a number of snapshots. */
export interface Level {
  by: "size" | "snapshots";
  sizeBytes: number;
  snapshots: number;
}

/** What was measured at it: a column of the tables, a point of the plots. */
export interface GrowthRow extends Level {
  /** To write the disk, or to take the snapshots since the level below. */
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

export interface GrowthOptions {
  /** Of disks, in GiB. */
  sizes: readonly number[];
  /** How many, in ascending order, on a disk of 10 GiB. */
  snapshots: readonly number[];
  /** Of each operation; the median counts. */
  samples: number;
  /** Of one task at one level: a process of its own, killed if it takes longer. */
  taskMs: number;
  /** Ends the task that is under way and all of it. */
  signal: AbortSignal;
  /** Scratch space: some 10 GiB for the largest. A directory of its own is made in it. */
  scratch: string;
  /** What was measured before, and is not measured again. */
  isDone(level: Level): boolean;
  /** Called with each level as soon as it is measured. */
  onRow(row: GrowthRow): Promise<void>;
  progress(line: string): void;
}

const gibibyte = 2 ** 30;
const historyBytes = 10 * gibibyte;
/** Random blocks written before each snapshot. */
const writesEach = 10;
const readsMs = 10_000;
const name = "disk";

export function levelText({ sizeBytes, snapshots }: Level): string {
  return `${sizeBytes / gibibyte} GiB, ${snapshots} snapshots`;
}

/**
 * Measures the levels that are not done. One that fails does not keep others from being; resolves with what
 * failed. Rejects when the signal has ended it.
 */
export async function measureGrowth(options: GrowthOptions): Promise<string[]> {
  const failed: string[] = [];
  const attempt = async (what: string, action: () => Promise<void>) => {
    try {
      await action();
    } catch (error) {
      options.signal.throwIfAborted();
      const message = `${what}: ${error instanceof Error ? error.message : error}`;
      options.progress(message);
      failed.push(message);
    }
  };
  for (const size of options.sizes) {
    const level = { by: "size", sizeBytes: size * gibibyte, snapshots: 1 } as const;
    if (options.isDone(level)) continue;
    await attempt(levelText(level), () => measureSize(level, options));
  }
  const wanted = options.snapshots.map(
    (snapshots) => ({ by: "snapshots", sizeBytes: historyBytes, snapshots }) as const,
  );
  const last = wanted.findLastIndex((level) => !options.isDone(level));
  if (last < 0) return failed;
  // Each level stands on the one below, also on one that is done: that is only built.
  await attempt("snapshots", () =>
    withScratch(options, async (directory) => {
      await runChild("build", { directory, name, sizeBytes: historyBytes }, limitOf(options));
      for (const level of wanted.slice(0, last + 1)) {
        const { snapshots } = level;
        const input = { directory, name, snapshots, writesEach };
        const { ms: buildMs } = await runChild<{ ms: number }>("grow", input, limitOf(options));
        if (options.isDone(level)) continue;
        await attempt(levelText(level), () =>
          measureCopy(directory, options, { ...level, buildMs }),
        );
      }
    }),
  );
  return failed;
}

function measureSize(level: Level, options: GrowthOptions): Promise<void> {
  return withScratch(options, async (directory) => {
    const { sizeBytes } = level;
    const startMs = performance.now();
    await runChild("build", { directory, name, sizeBytes }, limitOf(options));
    const buildMs = performance.now() - startMs;
    await runChild("grow", { directory, name, snapshots: 1, writesEach }, limitOf(options));
    await options.onRow(await measureLevel(directory, options, { ...level, buildMs }));
  });
}

/** What is measured changes the store: that is done to a copy. */
async function measureCopy(
  directory: string,
  options: GrowthOptions,
  about: Level & { buildMs: number },
): Promise<void> {
  const copy = `${directory}-copy`;
  try {
    await runTool("cp", ["-a", "--sparse=auto", directory, copy]);
    await options.onRow(await measureLevel(copy, options, about));
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

async function measureLevel(
  directory: string,
  options: GrowthOptions,
  about: Level & { buildMs: number },
): Promise<GrowthRow> {
  const { samples, progress } = options;
  const run = <T>(task: string, more: object = {}) => {
    progress(`${levelText(about)}: ${task}`);
    return runChild<T>(task, { directory, name, ...more }, limitOf(options));
  };
  // Those that change nothing first.
  const open = await run<OpenCost>("open");
  const walk = await run<Walk>("walk");
  const mapScan = await run<MapScan>("mapScan");
  const afterReads = await run<Memory>("reads", { runtimeMs: readsMs });
  const { costs, memory } = await run<{ costs: Cost[]; memory: Memory }>("operations", { samples });
  const end = await run<EndCost>("end");
  return { ...about, open, costs, afterOperations: memory, afterReads, mapScan, walk, end };
}

function limitOf({ taskMs: ms, signal }: GrowthOptions) {
  return { ms, signal };
}

async function withScratch<T>(
  options: GrowthOptions,
  action: (directory: string) => Promise<T>,
): Promise<T> {
  const scratch = await mkdtemp(join(options.scratch, "kelpie-growth-"));
  try {
    return await action(join(scratch, "store"));
  } finally {
    await rm(scratch, { recursive: true, force: true, maxRetries: 5 });
  }
}
