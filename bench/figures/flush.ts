import type { Bench, Figure } from "../bench.ts";
import { runFio } from "../fio.ts";
import type { Measurement } from "../report.ts";
import { inTurns, writeBack } from "../turns.ts";

const writers = 16;

export const flush: Figure = {
  id: "write-flush-16",
  name: "4 KiB random write + flush, 16 writers",
  target: "5 x the single-writer rate (group commit)",
  phase: "written",
  measure,
};

/** Each writer writes, flushes, waits for the flush and begins again. */
async function measure(bench: Bench): Promise<Measurement> {
  const { turnMs, scratch } = bench.settings;
  const kelpie = await bench.server("Kelpie");
  await kelpie.settle();
  const turn = (processes: number) => async () => {
    const job = { uri: kelpie.uri, rw: "randwrite", queueDepth: 1, flushEach: true } as const;
    const result = await bench.alone(kelpie, () =>
      runFio({ ...job, processes, runtimeMs: turnMs }),
    );
    return result.requestsPerSecond;
  };
  const turns = [
    { name: "one", run: turn(1), before: () => writeBack(scratch) },
    { name: "many", run: turn(writers), before: () => writeBack(scratch) },
  ];
  const values = await inTurns(turns, bench.settings);
  return {
    comparisons: [
      {
        beside: "1 writer",
        unit: "/s",
        ours: values.get("many") ?? [],
        theirs: values.get("one") ?? [],
        target: { atLeast: 5 },
      },
    ],
    notes: [`each of the ${writers} writers is a process with a connection of its own`],
  };
}
