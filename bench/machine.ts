import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { tryTool } from "../test/support/tools.ts";

/** Numbers mean little without it. */
export interface Machine {
  cores: number;
  processor: string;
  memoryBytes: number;
  kernel: string;
  node: string;
  /** The first line that each says about its version. */
  tools: Record<string, string>;
}

export async function describeMachine(): Promise<Machine> {
  const processors = cpus();
  const tools: Record<string, string> = {};
  for (const tool of ["fio", "qemu-nbd", "nbdkit"]) {
    // A tool that is not there has no version; the figures that need it say so.
    const result = await tryTool(tool, ["--version"]).catch(() => undefined);
    if (result !== undefined) tools[tool] = result.stdout.split("\n")[0] ?? "";
  }
  return {
    cores: processors.length,
    processor: processors[0]?.model ?? "unknown",
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    tools,
  };
}

/** Processes that want to run, for each processor, over the last minute. A run of the benchmark is 1 to 2. */
export function loadPerCore(): number {
  return (loadavg()[0] ?? 0) / availableParallelism();
}
