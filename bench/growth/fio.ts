import { spawn } from "node:child_process";
import { runTool } from "../../test/support/tools.ts";

export interface FioJob {
  uri: string;
  rw: "randread" | "randwrite";
  queueDepth: number;
  runtimeMs: number;
}

/** Requests of 4 KiB over NBD by fio's own engine, as many as fit into the time. */
function fioArguments(job: FioJob): string[] {
  return [
    "--name=job",
    "--ioengine=nbd",
    `--uri=${job.uri}`,
    `--rw=${job.rw}`,
    "--bs=4k",
    `--iodepth=${job.queueDepth}`,
    "--time_based",
    `--runtime=${Math.round(job.runtimeMs)}ms`,
    // A disk of 100 GiB is not gone through twice; what was read before does not matter.
    "--norandommap",
    "--randrepeat=0",
    "--output-format=json",
  ];
}

export interface FioResult {
  requestsPerSecond: number;
  /** 99 of 100 requests took less. */
  p99Ms: number;
}

export async function runFio(job: FioJob): Promise<FioResult> {
  return parseFio(await runTool("fio", fioArguments(job)), job);
}

/** A job that goes on while something else is measured; `result` when its time is over. */
export function startFio(job: FioJob): { result: Promise<FioResult>; stop: () => void } {
  const child = spawn("fio", fioArguments(job), { stdio: ["ignore", "pipe", "inherit"] });
  let stdout = "";
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  const result = new Promise<FioResult>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => {
      try {
        resolve(parseFio(stdout, job));
      } catch (error) {
        reject(error);
      }
    });
  });
  return { result, stop: () => child.kill("SIGINT") };
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
  clat_ns: { percentile?: Record<string, number> };
}

function parseFio(stdout: string, job: FioJob): FioResult {
  const output = JSON.parse(stdout.slice(stdout.indexOf("{"))) as FioOutput;
  const [done] = output.jobs;
  if (done === undefined || done.error !== 0) throw new Error(`fio failed: ${stdout}`);
  const direction = job.rw === "randread" ? done.read : done.write;
  const p99Ns = direction.clat_ns.percentile?.["99.000000"] ?? 0;
  return { requestsPerSecond: direction.iops, p99Ms: p99Ns / 1e6 };
}
