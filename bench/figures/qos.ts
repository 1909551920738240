import { formatNbdUri } from "../../src/nbd/uri.ts";
import type { Bench, Figure } from "../bench.ts";
import { runFio, startFio } from "../fio.ts";
import type { Measurement } from "../report.ts";
import { inTurns, type Turn } from "../turns.ts";

const opsPerSecond = 1000;
const limitedMs = 10_000;
/** fio begins a job a moment after it is started. */
const settleMs = 1000;

/** A disk with a limit beside one without, both of one server and both used as much as they can be. */
export const qos: Figure = {
  id: "qos",
  name: "A disk limited to 1,000 requests a second, and its neighbour without limit",
  target: "950 to 1,050 over ten seconds; the neighbour 0.9 x its speed alone",
  phase: "own store",
  fullOnly: true,
  measure,
};

async function measure(bench: Bench): Promise<Measurement> {
  const { diskBytes, turnMs } = bench.settings;
  const kelpie = await bench.freshKelpie(diskBytes);
  try {
    await kelpie.call("vdi.create", {
      name: "limited",
      sizeBytes: diskBytes,
      qos: { opsPerSecond },
    });
    const limited = formatNbdUri({ address: kelpie.address, exportName: "limited" });
    const neighbour = { uri: kelpie.uri, rw: "randread", queueDepth: 32 } as const;
    const rates: number[] = [];
    const turns: Turn[] = [
      {
        name: "alone",
        run: async () =>
          (await bench.alone(kelpie, () => runFio({ ...neighbour, runtimeMs: turnMs })))
            .requestsPerSecond,
      },
      {
        name: "beside",
        run: () =>
          bench.alone(kelpie, async () => {
            const job = { uri: limited, rw: "randwrite", queueDepth: 32 } as const;
            const other = startFio({ ...job, runtimeMs: limitedMs });
            await new Promise((resolve) => setTimeout(resolve, settleMs));
            const beside = await runFio({ ...neighbour, runtimeMs: turnMs });
            const result = await other.result;
            rates.push(result.totalBytes / 4096 / (result.runtimeMs / 1000));
            return beside.requestsPerSecond;
          }),
      },
    ];
    const values = await inTurns(turns, bench.settings);
    const measured = rates.map((rate) => Math.round(rate));
    return {
      comparisons: [
        {
          beside: "the neighbour alone",
          unit: "/s",
          ours: values.get("beside") ?? [],
          theirs: values.get("alone") ?? [],
          target: { atLeast: 0.9 },
        },
      ],
      verdict: {
        measured: `${measured.join(", ")} requests/s over ten seconds each`,
        met: measured.every((rate) => rate >= 950 && rate <= 1050),
        values: { slowest: Math.min(...measured), fastest: Math.max(...measured) },
      },
    };
  } finally {
    await kelpie.stop();
  }
}
