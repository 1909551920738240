import { rm } from "node:fs/promises";
import { join } from "node:path";
import { measureGatewayMemory } from "./gateway-memory.ts";
import { measureLevels } from "./levels.ts";
import { runChild } from "./run-child.ts";
import { median } from "./samples.ts";
import { measureUncleanOpen } from "./unclean.ts";
import { type BranchTimes, measureUnderLoad } from "./under-load.ts";

/** What one figure came to: numbers with their units in their names, and whether the target is met. */
export interface FigureResult {
  values: Record<string, number>;
  /** In words, for a table. */
  measured: string;
  met: boolean;
}

export interface GrowthFigure {
  name: string;
  target: string;
  /** "quick" shows that it works, on less data and in less time; "full" is what the target means. */
  measure(form: "quick" | "full", scratch: string): Promise<FigureResult>;
}

const gibibyte = 2 ** 30;
const name = "disk";

export const growthFigures: GrowthFigure[] = [
  {
    name: "snapshot, rollback, clone of a disk with 100 GiB mapped, and with 1 GiB",
    target: "under 10 ms with nothing dirty, under 30 ms in the middle of a full write load",
    measure: (form, scratch) => withStore(scratch, (directory) => branchFigure(form, directory)),
  },
  {
    name: "random read at snapshot depth 1,000, each level having written 1,000 random blocks",
    target: "within 10 % of depth 1",
    measure: (form, scratch) => withStore(scratch, (directory) => depthFigure(form, directory)),
  },
  {
    name: "open after kill -9 with 10 GiB written at 4 KiB, depth 1, checkpoints held back",
    target: "under 2 s",
    measure: (form, scratch) => withStore(scratch, (directory) => openFigure(form, directory)),
  },
  {
    name: "memory of a gateway after 5 minutes of random reads over a whole mapped 100 GiB disk",
    target: "under 400 MB",
    measure: (form, scratch) => withStore(scratch, (directory) => memoryFigure(form, directory)),
  },
];

async function branchFigure(form: "quick" | "full", directory: string): Promise<FigureResult> {
  const values: Record<string, number> = {};
  const said: string[] = [];
  let met = true;
  for (const sizeGib of form === "quick" ? [1, 10] : [1, 100]) {
    const store = `${directory}-${sizeGib}`;
    await runChild("build", { directory: store, name, sizeBytes: sizeGib * gibibyte });
    const rounds = form === "quick" ? 5 : 15;
    const { idle, load, writesPerSecond } = await measureUnderLoad({
      directory: store,
      name,
      rounds,
    });
    await rm(store, { recursive: true });
    values[`writesPerSecond${sizeGib}Gib`] = writesPerSecond;
    for (const [state, times, limitMs] of [
      ["idle", idle, 10],
      ["load", load, 30],
    ] as const) {
      for (const { what, ms } of times) values[`${what}Ms${sizeGib}Gib-${state}`] = median(ms);
      met &&= times.every(({ ms }) => median(ms) < limitMs);
      said.push(`${sizeGib} GiB, ${state}: ${times.map(branchText).join(", ")}`);
    }
  }
  return { values, measured: said.join("; "), met };
}

function branchText({ what, ms }: BranchTimes): string {
  return `${what} ${median(ms).toFixed(1)} ms (worst ${Math.max(...ms).toFixed(0)})`;
}

async function depthFigure(form: "quick" | "full", directory: string): Promise<FigureResult> {
  const size =
    form === "quick"
      ? { sizeBytes: gibibyte / 4, levels: 100, writesEach: 100 }
      : { sizeBytes: 2 * gibibyte, levels: 1000, writesEach: 1000 };
  await runChild("levels", { directory, ...size });
  const turns = form === "quick" ? { rounds: 3, runtimeMs: 1000 } : { rounds: 7, runtimeMs: 4000 };
  const { shallow, deep } = await measureLevels({ directory, ...turns });
  const [shallowRate, deepRate] = [median(shallow), median(deep)];
  const ratio = deepRate / shallowRate;
  return {
    values: { shallowRequestsPerSecond: shallowRate, deepRequestsPerSecond: deepRate, ratio },
    measured: `${thousands(deepRate)} against ${thousands(shallowRate)} a second: ${ratio.toFixed(2)}`,
    met: ratio >= 0.9,
  };
}

async function openFigure(form: "quick" | "full", directory: string): Promise<FigureResult> {
  const writeBytes = (form === "quick" ? 1 : 10) * gibibyte;
  const { open } = await measureUncleanOpen({
    directory,
    sizeBytes: 10 * gibibyte,
    writeBytes,
    order: "random",
  });
  return {
    values: { openMs: open.ms, writeBytes, replayedEntries: open.replayedEntries },
    measured: `${(open.ms / 1000).toFixed(2)} s, ${open.replayedEntries} entries replayed`,
    met: open.ms < 2000,
  };
}

async function memoryFigure(form: "quick" | "full", directory: string): Promise<FigureResult> {
  await runChild("build", { directory, name, sizeBytes: 100 * gibibyte });
  const runtimeMs = form === "quick" ? 30_000 : 300_000;
  const { endBytes, peakBytes, requestsPerSecond } = await measureGatewayMemory({
    directory,
    name,
    runtimeMs,
  });
  const [endMb, peakMb] = [endBytes / 1e6, peakBytes / 1e6];
  return {
    values: { endMb, peakMb, requestsPerSecond },
    measured: `${endMb.toFixed(0)} MB, at most ${peakMb.toFixed(0)} MB`,
    met: endMb < 400,
  };
}

async function withStore(
  scratch: string,
  action: (directory: string) => Promise<FigureResult>,
): Promise<FigureResult> {
  const directory = join(scratch, "store");
  try {
    return await action(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function thousands(value: number): string {
  return `${(value / 1000).toFixed(0)}k`;
}
