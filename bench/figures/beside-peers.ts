import { type Bench, type Figure, NotMeasured } from "../bench.ts";
import { type FioJob, runFio } from "../fio.ts";
import { Kelpie } from "../peers/kelpie.ts";
import type { ServerName } from "../peers/server.ts";
import type { Comparison, Measurement, Target } from "../report.ts";
import { inTurns, type Turn, writeBack } from "../turns.ts";

type Job = Pick<FioJob, "rw" | "queueDepth" | "requestBytes">;
type Peer = Exclude<ServerName, "Kelpie">;

const kibibyte = 1024;
const mebibyte = 1024 * kibibyte;

/** The same fio job on each server in turn. */
export const besidePeers: Figure[] = [
  {
    id: "random-read-32",
    name: "4 KiB random read, queue depth 32",
    target: "3 x qemu-nbd qcow2, and not slower than nbdkit memory",
    phase: "filled",
    measure: (bench) =>
      beside(
        bench,
        { rw: "randread", queueDepth: 32 },
        { "qemu-nbd qcow2": { atLeast: 3 }, "nbdkit memory": { atLeast: 1 } },
        ["an empty server"],
      ),
  },
  {
    id: "random-write-32",
    name: "4 KiB random write, queue depth 32",
    target: "2.5 x qemu-nbd qcow2, 0.8 x nbdkit memory",
    phase: "written",
    measure: (bench) =>
      beside(
        bench,
        { rw: "randwrite", queueDepth: 32 },
        { "qemu-nbd qcow2": { atLeast: 2.5 }, "nbdkit memory": { atLeast: 0.8 } },
        ["an empty server"],
      ),
  },
  {
    id: "random-read-1",
    name: "4 KiB random read, queue depth 1",
    target: "not slower than qemu-nbd qcow2",
    phase: "filled",
    measure: (bench) =>
      beside(bench, { rw: "randread", queueDepth: 1 }, { "qemu-nbd qcow2": { atLeast: 1 } }),
  },
  {
    id: "random-write-1",
    name: "4 KiB random write, queue depth 1",
    target: "not slower than qemu-nbd qcow2",
    phase: "written",
    measure: (bench) =>
      beside(bench, { rw: "randwrite", queueDepth: 1 }, { "qemu-nbd qcow2": { atLeast: 1 } }),
  },
  {
    id: "sequential-read-8",
    name: "1 MiB sequential read, depth 8",
    target: "not slower than qemu-nbd qcow2",
    phase: "filled",
    measure: (bench) =>
      beside(
        bench,
        { rw: "read", queueDepth: 8, requestBytes: mebibyte },
        { "qemu-nbd qcow2": { atLeast: 1 } },
      ),
  },
  {
    id: "sequential-read-scattered",
    name: "1 MiB sequential read, depth 8, of a disk written at random",
    target: "none",
    phase: "written",
    fullOnly: true,
    measure: async (bench) => {
      await scatter(bench);
      return beside(bench, { rw: "read", queueDepth: 8, requestBytes: mebibyte }, {});
    },
  },
  {
    id: "sequential-write-8",
    name: "1 MiB sequential write, depth 8",
    target: "0.9 x qemu-nbd qcow2",
    phase: "written",
    measure: (bench) =>
      beside(
        bench,
        { rw: "write", queueDepth: 8, requestBytes: mebibyte },
        { "qemu-nbd qcow2": { atLeast: 0.9 } },
      ),
  },
];

/** Every block of Kelpie's disk once, in no order. To the others it does not matter. */
async function scatter(bench: Bench): Promise<void> {
  const { uri } = await bench.server("Kelpie");
  const totalBytes = bench.settings.diskBytes;
  await runFio({ uri, rw: "randwrite", queueDepth: 32, eachBlockOnce: true, totalBytes });
}

const allPeers: readonly Peer[] = [
  "qemu-nbd qcow2",
  "nbdkit memory",
  "qemu-nbd raw",
  "an empty server",
];

/** Peers without a target are measured too, for what they tell: `shown` always, others if there is time. */
async function beside(
  bench: Bench,
  job: Job,
  targets: Partial<Record<Peer, Target>>,
  shown: readonly Peer[] = [],
): Promise<Measurement> {
  const { form, turnMs, scratch } = bench.settings;
  const hasNone = Object.keys(targets).length === 0;
  const wanted = allPeers.filter(
    (peer) => form === "full" || hasNone || targets[peer] !== undefined || shown.includes(peer),
  );
  const there = wanted.filter((peer) => bench.missing(peer) === undefined);
  if (there.length === 0) {
    const [first = "nbdkit memory"] = wanted;
    throw new NotMeasured(bench.missing(first));
  }
  const large = (job.requestBytes ?? 0) >= mebibyte;
  const isWrite = job.rw === "randwrite" || job.rw === "write";
  const turns: Turn[] = [];
  for (const name of ["Kelpie", ...there] as const) {
    const server = await bench.server(name);
    turns.push({
      name,
      ...(isWrite ? { before: () => writeBack(scratch) } : {}),
      run: async () => {
        const result = await bench.alone(server, () =>
          runFio({ ...job, uri: server.uri, runtimeMs: turnMs }),
        );
        // What it would tidy up later it does now, and not as its next turn begins.
        if (isWrite && server instanceof Kelpie) await server.settle();
        return large ? result.bytesPerSecond / mebibyte : result.requestsPerSecond;
      },
    });
  }
  const values = await inTurns(turns, bench.settings);
  const comparisons = wanted.map(
    (peer): Comparison => ({
      beside: peer,
      unit: large ? "MiB/s" : "/s",
      ours: values.get("Kelpie") ?? [],
      theirs: values.get(peer) ?? [],
      target: targets[peer],
      notMeasured: bench.missing(peer),
    }),
  );
  return { comparisons };
}
