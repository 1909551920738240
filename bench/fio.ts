import { spawn } from "node:child_process";
import { within } from "./time-limit.ts";
import { debianPackage } from "./tools.ts";

/** Requests over NBD by fio's own engine: random data, no two writes alike. */
export interface FioJob {
  uri: string;
  rw: "randread" | "randwrite" | "read" | "write";
  /** Requests under way at any time, of each job. */
  queueDepth: number;
  /** 4 KiB unless said. */
  requestBytes?: number;
  /** As many as fit into the time … */
  runtimeMs?: number;
  /** … or until this much is done, by all jobs together. */
  totalBytes?: number;
  /** Only the first of the disk. */
  spanBytes?: number;
  /** Random requests reach each block once before any a second time. Costs fio a map of the disk. */
  eachBlockOnce?: boolean;
  /** Every write is followed by a flush, and the next waits for it. */
  flushEach?: boolean;
  /** Processes that do this side by side, each over a connection of its own. */
  processes?: number;
  /** Not there after this much more than it was to take, it is killed: it hangs, or the server does. */
  graceMs?: number;
}

export interface FioResult {
  requestsPerSecond: number;
  bytesPerSecond: number;
  totalBytes: number;
  runtimeMs: number;
  /** 99 of 100 requests took less. */
  p99Ms: number;
}

/** On a busy machine it takes seconds to begin. */
const graceDefaultMs = 45_000;
/** What is to be done, and not for a time, is done at this rate at least: less than any machine reaches. */
const bytesPerSecondMin = 4 * 2 ** 20;

export function runFio(job: FioJob): Promise<FioResult> {
  return startFio(job).result;
}

/** A job that goes on while something else is measured; `result` when its time is over. */
export function startFio(job: FioJob): { result: Promise<FioResult>; stop: () => void } {
  const command = `fio ${fioArguments(job).join(" ")}`;
  // In a process group of its own: its jobs are processes that would outlive it and hold its pipes open.
  const child = spawn("fio", fioArguments(job), {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = new Promise<FioResult>((resolve, reject) => {
    child.on("error", () => reject(new Error(`fio is not installed (${debianPackage("fio")})`)));
    child.on("close", () => {
      try {
        resolve(parseFio(stdout, job));
      } catch {
        reject(new Error(["fio failed:", command, stdout, stderr].join(" ").trim()));
      }
    });
  });
  const giveUp = () => killGroup(child.pid);
  const result = within({ what: command, ms: limitMs(job), giveUp }, ended);
  return { result, stop: () => child.kill("SIGINT") };
}

function limitMs({ runtimeMs, totalBytes = 0, graceMs = graceDefaultMs }: FioJob): number {
  return graceMs + (runtimeMs ?? (totalBytes / bytesPerSecondMin) * 1000);
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // All of them have ended.
  }
}

function fioArguments(job: FioJob): string[] {
  const { requestBytes = 4096, processes = 1, runtimeMs, totalBytes, spanBytes } = job;
  const each = totalBytes === undefined ? undefined : Math.ceil(totalBytes / processes);
  return [
    "--name=job",
    "--ioengine=nbd",
    `--uri=${job.uri}`,
    `--rw=${job.rw}`,
    `--bs=${requestBytes}`,
    `--iodepth=${job.queueDepth}`,
    `--numjobs=${processes}`,
    "--group_reporting",
    ...(runtimeMs === undefined ? [] : ["--time_based", `--runtime=${Math.round(runtimeMs)}ms`]),
    ...(each === undefined ? [] : [`--io_size=${each}`]),
    ...(spanBytes === undefined ? [] : [`--size=${spanBytes}`]),
    // Large disks are not gone through twice; what was read before does not matter.
    ...(job.eachBlockOnce === true ? [] : ["--norandommap"]),
    ...(job.flushEach === true ? ["--fsync=1"] : []),
    "--randrepeat=0",
    "--eta=never",
    "--output-format=json",
  ];
}

interface FioOutput {
  jobs: {
    error: number;
    read: FioDirection;
    write: FioDirection;
  }[];
}

interface FioDirection {
  iops: number;
  io_bytes: number;
  bw_bytes: number;
  runtime: number;
  clat_ns: { percentile?: Record<string, number> };
}

function parseFio(stdout: string, job: FioJob): FioResult {
  const output = JSON.parse(stdout.slice(stdout.indexOf("{\n"))) as FioOutput;
  const [done] = output.jobs;
  if (done === undefined || done.error !== 0) throw new Error("no result, or an error");
  const direction = job.rw === "randread" || job.rw === "read" ? done.read : done.write;
  return {
    requestsPerSecond: direction.iops,
    bytesPerSecond: direction.bw_bytes,
    totalBytes: direction.io_bytes,
    runtimeMs: direction.runtime,
    p99Ms: (direction.clat_ns.percentile?.["99.000000"] ?? 0) / 1e6,
  };
}
