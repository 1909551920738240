import { setTimeout as sleep } from "node:timers/promises";
import type { CallInput } from "../../src/control/calls.ts";
import { ServerProcess } from "../../test/support/server-process.ts";
import { startFio } from "../fio.ts";
import { median } from "./samples.ts";

export interface BranchTimes {
  what: "snapshot" | "rollback" | "clone";
  ms: number[];
}

export interface UnderLoad {
  idle: BranchTimes[];
  load: BranchTimes[];
  /** Writes a second that went on meanwhile. */
  writesPerSecond: number;
}

const warmUpMs = 2000;
const betweenMs = 250;

/**
 * Snapshot, rollback and clone through the control socket of a gateway: first with nothing dirty, then
 * while a client writes 4 KiB at random with 32 requests under way, as fast as it goes.
 */
export async function measureUnderLoad(input: {
  directory: string;
  name: string;
  rounds: number;
}): Promise<UnderLoad> {
  const { directory, name, rounds } = input;
  await using server = await ServerProcess.start(directory);
  await server.control.call("vdi.snapshot", { names: [name], tag: "base" });
  const idle = await branch(server, { name, rounds, prefix: "idle" });
  const runtimeMs = 600_000;
  const fio = startFio({ uri: server.uri(name), rw: "randwrite", queueDepth: 32, runtimeMs });
  await sleep(warmUpMs);
  const load = await branch(server, { name, rounds, prefix: "load" });
  fio.stop();
  const { requestsPerSecond } = await fio.result;
  return { idle, load, writesPerSecond: requestsPerSecond };
}

async function branch(
  server: ServerProcess,
  what: { name: string; rounds: number; prefix: string },
): Promise<BranchTimes[]> {
  const { name, rounds, prefix } = what;
  const times: Record<BranchTimes["what"], number[]> = { snapshot: [], rollback: [], clone: [] };
  const rollback: CallInput<"vdi.rollback"> = { names: [name], snapshot: "base", live: true };
  for (let round = 0; round < rounds; round++) {
    const tag = `${prefix}${round}`;
    times.snapshot.push(
      await timed(() => server.control.call("vdi.snapshot", { names: [name], tag })),
    );
    times.rollback.push(await timed(() => server.control.call("vdi.rollback", rollback)));
    const copy = { source: name, snapshot: "base", name: tag };
    times.clone.push(await timed(() => server.control.call("vdi.clone", copy)));
  }
  return (["snapshot", "rollback", "clone"] as const).map((one) => ({ what: one, ms: times[one] }));
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  await sleep(betweenMs);
  const startMs = performance.now();
  await action();
  return performance.now() - startMs;
}

/** The slowest of the three, by their medians, and by the worst that was seen. */
export function slowest(times: readonly BranchTimes[]): { medianMs: number; worstMs: number } {
  return {
    medianMs: Math.max(...times.map(({ ms }) => median(ms))),
    worstMs: Math.max(...times.flatMap(({ ms }) => ms)),
  };
}
