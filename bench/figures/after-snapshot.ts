import { type Bench, type Figure, NotMeasured } from "../bench.ts";
import { runFio } from "../fio.ts";
import type { BenchServer } from "../peers/server.ts";
import type { Comparison, Measurement } from "../report.ts";
import { inTurns, type Turn, writeBack } from "../turns.ts";

const blockBytes = 4096;
/** At depth 1: a small part of a disk's qcow2 clusters of 64 KiB, so that almost every write copies one. */
const singleWrites = { quick: 256, full: 1024 };
/** At depth 32: long enough for fio to time, short enough to be "right after". */
const deepWrites = 16_384;

export const afterSnapshot: Figure = {
  id: "write-after-snapshot",
  name: "4 KiB random write right after a snapshot",
  target: "0.9 x the speed without it; 5 x qemu-nbd qcow2 in the same state at depth 1",
  phase: "written",
  measure,
};

/** A new snapshot before every turn that wants one. Those of earlier turns stay, as they would for users. */
async function measure(bench: Bench): Promise<Measurement> {
  const { form, scratch } = bench.settings;
  const kelpie = await bench.server("Kelpie");
  const withoutQcow2 = bench.missing("qemu-nbd qcow2");
  const qcow2 = withoutQcow2 === undefined ? await bench.server("qemu-nbd qcow2") : undefined;
  await kelpie.settle();

  const deep = () =>
    bench.alone(kelpie, () => write(kelpie, { queueDepth: 32, writes: deepWrites }));
  const single = (server: BenchServer) =>
    bench.alone(server, () => write(server, { queueDepth: 1, writes: singleWrites[form] }));
  const writtenBack = () => writeBack(scratch);
  const snapshot = () => kelpie.snapshot().then(writtenBack);
  const turns: Turn[] = [
    { name: "without", run: deep, before: writtenBack },
    { name: "after", run: deep, before: snapshot },
    { name: "after, depth 1", run: () => single(kelpie), before: snapshot },
  ];
  if (qcow2 !== undefined) {
    const before = () => qcow2.snapshot().then(writtenBack);
    turns.push({ name: "qcow2, depth 1", run: () => single(qcow2), before });
  }
  const values = await inTurns(turns, bench.settings);
  await kelpie.deleteSnapshots();
  await qcow2?.deleteSnapshots();

  const of = (name: string) => values.get(name) ?? [];
  const comparisons: Comparison[] = [
    {
      beside: "without it",
      unit: "/s",
      ours: of("after"),
      theirs: of("without"),
      target: { atLeast: 0.9 },
    },
    {
      beside: "qemu-nbd qcow2, depth 1",
      unit: "/s",
      ours: of("after, depth 1"),
      theirs: of("qcow2, depth 1"),
      target: { atLeast: 5 },
      notMeasured: withoutQcow2,
    },
  ];
  const count = (writes: number) => writes.toLocaleString("en");
  const notes = [
    `depth 32: the first ${count(deepWrites)} writes after it; depth 1: the first ` +
      `${count(singleWrites[form])}, each to another cluster of qcow2 as a rule`,
  ];
  return { comparisons, notes };
}

async function write(
  server: BenchServer,
  job: { queueDepth: number; writes: number },
): Promise<number> {
  const { queueDepth, writes } = job;
  const result = await runFio({
    uri: server.uri,
    rw: "randwrite",
    queueDepth,
    totalBytes: writes * blockBytes,
  });
  if (result.totalBytes < writes * blockBytes) throw new NotMeasured("fio ended early");
  return result.requestsPerSecond;
}
