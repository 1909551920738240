import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { within } from "../time-limit.ts";

const program = join(import.meta.dirname, "child.ts");

/** A task that keeps what it should not fails, and does not take the machine with it. */
const heapLimit = "--max-old-space-size=2048";
/** The longest maps a disk of a TiB or takes ten thousand snapshots. */
const taskMs = 1_800_000;

/**
 * Runs one of the tasks in child.ts in a process of its own, so that what it takes in memory is its own
 * and nothing is left over from before. Resolves with the answer it printed. One that takes longer than
 * the limit is killed, and so it is when the signal says so; that is an error.
 */
export async function runChild<T>(
  task: string,
  input: object,
  how: { ms?: number; signal?: AbortSignal } = {},
): Promise<T> {
  const { ms = taskMs, signal } = how;
  const child = startChild(task, input, signal);
  let stdout = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  const giveUp = () => void child.kill("SIGKILL");
  const code = await within({ what: `${task} ${JSON.stringify(input)}`, ms, giveUp }, ended);
  if (code !== 0) throw new Error(`${task} ended with ${code}`);
  const last = stdout.trimEnd().split("\n").at(-1) ?? "";
  return JSON.parse(last) as T;
}

/**
 * The same, for who wants to talk to it or to end it. With KELPIE_BENCH_NODE it is another node, or a
 * wrapper of one; with KELPIE_BENCH_PROFILE a profile is left in that directory.
 */
export function startChild(task: string, input: object, signal?: AbortSignal): ChildProcess {
  const node = process.env.KELPIE_BENCH_NODE ?? process.execPath;
  const profile = process.env.KELPIE_BENCH_PROFILE;
  const extra = profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}`];
  return spawn(node, ["--expose-gc", heapLimit, ...extra, program, task, JSON.stringify(input)], {
    stdio: ["ignore", "pipe", "inherit"],
    killSignal: "SIGKILL",
    ...(signal === undefined ? {} : { signal }),
  });
}
