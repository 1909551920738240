import { readFile } from "node:fs/promises";
import { ServerProcess } from "../../test/support/server-process.ts";
import { startFio } from "../fio.ts";

export interface MemorySample {
  seconds: number;
  /** What the process has in memory now, without pages of files. */
  rssBytes: number;
}

export interface GatewayMemory {
  samples: MemorySample[];
  /** The most there ever was. */
  peakBytes: number;
  endBytes: number;
  requestsPerSecond: number;
}

const sampleMs = 1000;

/** A gateway process under random reads of 4 KiB over a whole disk, with 32 under way at any time. */
export async function measureGatewayMemory(input: {
  directory: string;
  name: string;
  runtimeMs: number;
}): Promise<GatewayMemory> {
  const { directory, name, runtimeMs } = input;
  await using server = await ServerProcess.start(directory);
  const startMs = performance.now();
  const samples: MemorySample[] = [];
  const take = async () => {
    const { rssBytes } = await statusOf(server.pid);
    samples.push({ seconds: (performance.now() - startMs) / 1000, rssBytes });
  };
  await take();
  const fio = startFio({ uri: server.uri(name), rw: "randread", queueDepth: 32, runtimeMs });
  const timer = setInterval(() => void take(), sampleMs);
  const { requestsPerSecond } = await fio.result.finally(() => clearInterval(timer));
  const { rssBytes, peakBytes } = await statusOf(server.pid);
  return { samples, peakBytes, endBytes: rssBytes, requestsPerSecond };
}

async function statusOf(pid: number): Promise<{ rssBytes: number; peakBytes: number }> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const field = (name: string) => {
    const kibibytes = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1];
    return Number(kibibytes ?? 0) * 1024;
  };
  return { rssBytes: field("VmRSS"), peakBytes: field("VmHWM") };
}
