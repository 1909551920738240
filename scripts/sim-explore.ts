import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { PlanLimits, WorldReport } from "../sim/world/world.ts";

export interface FailedWorld {
  seed: number;
  failure: string;
  limits: PlanLimits;
}

export interface SimSummary {
  from: number;
  workers: number;
  durationMs: number;
  /** Processor time of all worlds. */
  worldMs: number;
  worlds: number;
  /** Of those, how many did what a world must do to count. */
  counted: number;
  requests: number;
  operations: Record<string, number>;
  crashes: number;
  crashesWithUnsynced: number;
  faults: number;
  hostCalls: number;
  cells: Record<string, number>;
  /** Reachable and not reached this time. */
  missingCells: string[];
  failures: FailedWorld[];
}

/** A list of crashes that worlds are known to reach, each as `operation | site | fault`. */
const reachablePath = join(import.meta.dirname, "../sim/reachable-cells.json");

/** Runs worlds in processes of their own until time is up or enough have run. */
export async function exploreWorlds(
  settings: { from: number; workers: number; limitMs: number; worlds: number | undefined },
  handlers: { failed: (world: FailedWorld) => void },
): Promise<SimSummary> {
  const { from, workers, limitMs, worlds } = settings;
  const startMs = performance.now();
  const summary = emptySummary(from, workers);
  const running = Array.from({ length: workers }, (_, at) => {
    const mine = worlds === undefined ? undefined : Math.ceil((worlds - at) / workers);
    return runWorker({ from: from + at, step: workers, count: mine }, (line) => {
      addTo(summary, JSON.parse(line) as Line, handlers);
    });
  });
  const timer = setTimeout(() => {
    for (const { child } of running) child.kill();
  }, limitMs);
  const died = await Promise.all(running.map(({ done }) => done));
  clearTimeout(timer);
  for (const text of died) {
    if (text !== undefined) summary.failures.push({ seed: from, failure: text, limits: {} });
  }
  summary.durationMs = performance.now() - startMs;
  const reachable = JSON.parse(readFileSync(reachablePath, "utf8")) as string[];
  summary.missingCells = reachable.filter((cell) => (summary.cells[cell] ?? 0) === 0);
  return summary;
}

interface Line {
  report: WorldReport;
  durationMs: number;
  limits?: PlanLimits;
}

function runWorker(
  { from, step, count }: { from: number; step: number; count: number | undefined },
  line: (text: string) => void,
): { child: ChildProcess; done: Promise<string | undefined> } {
  const path = join(import.meta.dirname, "sim-worker.ts");
  const args = [path, `${from}`, `${step}`, ...(count === undefined ? [] : [`${count}`])];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  lines.on("line", line);
  const done = new Promise<string | undefined>((resolve) => {
    child.on("close", (code, signal) => {
      const isExpected = code === 0 || signal === "SIGTERM";
      resolve(isExpected ? undefined : `a process that runs worlds ended with ${signal ?? code}`);
    });
  });
  return { child, done };
}

function addTo(
  summary: SimSummary,
  { report, durationMs, limits }: Line,
  handlers: { failed: (world: FailedWorld) => void },
): void {
  const { seed, failure } = report;
  summary.worlds++;
  summary.worldMs += durationMs;
  if (report.counts) summary.counted++;
  for (const key of [
    "requests",
    "crashes",
    "crashesWithUnsynced",
    "faults",
    "hostCalls",
  ] as const) {
    summary[key] += report[key];
  }
  addCounts(summary.operations, report.operations);
  addCounts(summary.cells, report.cells);
  if (failure === undefined) return;
  const failed = { seed, failure, limits: limits ?? {} };
  summary.failures.push(failed);
  handlers.failed(failed);
}

function addCounts(sums: Record<string, number>, counts: Record<string, number>): void {
  for (const [key, count] of Object.entries(counts)) sums[key] = (sums[key] ?? 0) + count;
}

function emptySummary(from: number, workers: number): SimSummary {
  return {
    from,
    workers,
    durationMs: 0,
    worldMs: 0,
    worlds: 0,
    counted: 0,
    requests: 0,
    operations: {},
    crashes: 0,
    crashesWithUnsynced: 0,
    faults: 0,
    hostCalls: 0,
    cells: {},
    missingCells: [],
    failures: [],
  };
}
