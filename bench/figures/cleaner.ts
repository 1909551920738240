import type { Bench, Figure } from "../bench.ts";
import { type FioResult, runFio } from "../fio.ts";
import type { Kelpie } from "../peers/kelpie.ts";
import type { Measurement } from "../report.ts";
import { inTurns } from "../turns.ts";

const quickDiskBytes = 2 ** 28;
/** What a turn without the cleaner may write before there is so much dead space that cleaning begins. */
const idleShare = 0.6;
/** Overwritten before a turn with the cleaner, so that there is something to clean all the time … */
const beforeShare = 1.25;
/** … and in it. */
const steadyShare = 1;

export const cleaner: Figure = {
  id: "write-while-cleaning",
  name: "4 KiB random write with the cleaner running",
  target: "0.6 x without",
  phase: "own store",
  measure,
};

/**
 * In each round first a store in which nothing is dead is written to: there is nothing to clean. Then it is
 * overwritten until as much is freed as is written, and that is measured.
 */
async function measure(bench: Bench): Promise<Measurement> {
  const { form, rounds } = bench.settings;
  const diskBytes = form === "quick" ? quickDiskBytes : bench.settings.diskBytes;
  const kelpie = await bench.freshKelpie(diskBytes);
  const freed = { without: 0, with: 0 };
  const run = async (state: keyof typeof freed, share: number) => {
    const { requestsPerSecond, freedBytes } = await writeAndCount(kelpie, share * diskBytes);
    freed[state] += freedBytes;
    return requestsPerSecond;
  };
  try {
    const turns = [
      {
        name: "without",
        before: () => kelpie.settle(),
        run: () => run("without", idleShare),
      },
      {
        name: "with",
        before: async () => void (await write(kelpie, beforeShare * diskBytes)),
        run: () => run("with", steadyShare),
      },
    ];
    // What is written before the first turn that counts warms up.
    const values = await inTurns(turns, { rounds, warmUp: false });
    const written = steadyShare * diskBytes * rounds;
    return {
      comparisons: [
        {
          beside: "without",
          unit: "/s",
          ours: values.get("with") ?? [],
          theirs: values.get("without") ?? [],
          target: { atLeast: 0.6 },
        },
      ],
      notes: [
        `while ${megabytes(written)} were written, ${megabytes(freed.with)} were freed; ` +
          `in the turns without, ${megabytes(freed.without)}`,
      ],
    };
  } finally {
    await kelpie.stop();
  }
}

function write(kelpie: Kelpie, totalBytes: number): Promise<FioResult> {
  return runFio({ uri: kelpie.uri, rw: "randwrite", queueDepth: 32, totalBytes });
}

/** What is written and does not make the store larger has been freed elsewhere in it. */
async function writeAndCount(
  kelpie: Kelpie,
  totalBytes: number,
): Promise<FioResult & { freedBytes: number }> {
  const before = await kelpie.info();
  const result = await write(kelpie, totalBytes);
  const after = await kelpie.info();
  const grownBytes = after.usedBytes - before.usedBytes;
  return { ...result, freedBytes: Math.max(0, result.totalBytes - grownBytes) };
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6).toLocaleString("en")} MB`;
}
