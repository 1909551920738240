import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { formatNbdUri } from "../../src/nbd/uri.ts";
import { runTool } from "../../test/support/tools.ts";
import { type FioJob, runFio, startFio } from "../fio.ts";
import { PeerProcess } from "../peers/peer-process.ts";

export interface Recording {
  rw: FioJob["rw"];
  queueDepth: number;
  sizeBytes: number;
  /** Under load before, so that what is compiled is, and while it is recorded. */
  warmUpMs: number;
  recordMs: number;
  /** Made, and not removed. */
  directory: string;
}

const name = "disk";
const program = join(import.meta.dirname, "../../bin/kelpie");
/** Samples of each thread a second of its processor time; no divisor of anything that is periodic. */
const frequency = "997";
/** V8 says where its code is, and interpreted functions are told apart. */
const nodeOptions = ["--perf-basic-prof", "--interpreted-frames-native-stack"];

/** Samples of a server's stacks under a job of fio, as `perf script` prints them. */
export async function recordStacks(recording: Recording): Promise<string> {
  const { directory, sizeBytes, rw, queueDepth, warmUpMs, recordMs } = recording;
  const store = join(directory, "store");
  const host = createNodeHost({ logLevel: "warn" });
  const made = await openLocalStore({ directory: store, create: true }, { host });
  await made.control.call("vdi.create", { name, sizeBytes });
  await made.close();
  const path = join(directory, "nbd.sock");
  const listen = ["--nbd", `unix:${path}`, "--sheepdog", "off", "--http", "off"];
  const serve = [program, "serve", "--store", store, ...listen];
  const server = await PeerProcess.start(process.execPath, [...nodeOptions, ...serve], path);
  try {
    const uri = formatNbdUri({ address: { kind: "unix", path }, exportName: name });
    const fill = { rw: "write", queueDepth: 8, requestBytes: 2 ** 20 } as const;
    await runFio({ uri, ...fill, totalBytes: sizeBytes });
    const runtimeMs = warmUpMs + recordMs + 1000;
    const fio = startFio({ uri, rw, queueDepth, runtimeMs });
    const [stacks] = await Promise.all([
      sleep(warmUpMs).then(() => record(server.pid, recording)),
      fio.result,
    ]);
    return stacks;
  } finally {
    await server.stop();
    await rm(`/tmp/perf-${server.pid}.map`, { force: true });
  }
}

/** By the processor's clock, since a virtual machine has no counters. */
async function record(pid: number, { directory, recordMs }: Recording): Promise<string> {
  const file = join(directory, "perf.data");
  const how = ["-e", "cpu-clock", "-F", frequency, "-g", "-o", file, "-p", String(pid)];
  await runTool("perf", ["record", "-q", ...how, "--", "sleep", String(recordMs / 1000)]);
  return await runTool("perf", [
    "script",
    "--no-inline",
    ...["-F", "comm,tid,ip,sym,dso"],
    ...["-i", file],
  ]);
}
