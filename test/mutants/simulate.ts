import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { ScratchCheckout } from "./scratch-checkout.ts";

/** What test/mutants/many-worlds.ts prints: as a world begins, or as it has failed. */
export interface WorldLine {
  seed: number;
  /** Processor time until then. */
  elapsedMs: number;
  failure?: string;
}

/** What some time of simulation made of a copy. */
export interface Simulation {
  /** Worlds that ran; if one failed, it is the last. */
  worlds: number;
  /** Processor time, of one core, of all of them. */
  seconds: number;
  /** Undefined if all was well. */
  failure: string | undefined;
}

/**
 * A world that does not end is a failure as well: all have been given so much more. Processor time, which
 * the system counts: on the clock worlds take longer where others run too.
 */
const hangSeconds = 30;

/** Runs worlds on a copy until one fails or so many seconds of processor time are over. */
export async function simulate(
  { directory }: ScratchCheckout,
  settings: { seconds: number; signal: AbortSignal },
): Promise<Simulation> {
  const { seconds: limit, signal } = settings;
  const command = `ulimit -t ${limit + hangSeconds}; exec "$0" test/mutants/many-worlds.ts "$1"`;
  const child = spawn("sh", ["-c", command, process.execPath, `${limit}`], {
    cwd: directory,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const kill = () => child.kill("SIGKILL");
  signal.addEventListener("abort", kill);
  let last: WorldLine = { seed: 0, elapsedMs: 0 };
  createInterface({ input: child.stdout }).on("line", (line) => {
    last = JSON.parse(line) as WorldLine;
  });
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaint += chunk.toString();
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  signal.removeEventListener("abort", kill);
  const { seed, elapsedMs, failure } = last;
  const died = code === 0 ? undefined : `ends with ${code ?? "a world that hangs"}: ${complaint}`;
  return { worlds: seed, seconds: elapsedMs / 1000, failure: failure ?? died };
}
