import { setTimeout as sleep } from "node:timers/promises";
import { type Bench, type Figure, NotMeasured } from "../bench.ts";
import { runFio } from "../fio.ts";
import type { Kelpie } from "../peers/kelpie.ts";
import type { Measurement } from "../report.ts";
import { allocatedBytes } from "./allocated-bytes.ts";

const times = 3;
const sampleMs = 250;
const limit = 1.5;
/** An idle gateway gives back what it kept for more writes within this time. */
const restMs = 13_000;
const quickDiskBytes = 2 ** 28;

export const space: Figure = {
  id: "space",
  name: "space used / live bytes after random overwrite of a whole disk, three times over",
  target: "under 1.5",
  phase: "own store",
  measure,
};

interface Space {
  /** What the store's directory takes on the file system, whatever it is used for. */
  usedBytes: number;
  liveBytes: number;
}

async function measure(bench: Bench): Promise<Measurement> {
  const { form } = bench.settings;
  const diskBytes = form === "quick" ? quickDiskBytes : bench.settings.diskBytes;
  const kelpie = await bench.freshKelpie(diskBytes);
  try {
    let peakBytes = 0;
    const watch = setInterval(() => {
      // A sample that fails is one fewer; the last one must not.
      void allocatedBytes(kelpie.directory).then((bytes) => {
        peakBytes = Math.max(peakBytes, bytes);
      });
    }, sampleMs);
    const atEnd = await overwrite(kelpie, diskBytes).finally(() => clearInterval(watch));
    peakBytes = Math.max(peakBytes, atEnd.usedBytes);
    const endMs = performance.now();
    let last = atEnd;
    while (ratio(last) >= limit && performance.now() - endMs < restMs) {
      await sleep(sampleMs);
      last = await spaceOf(kelpie);
    }
    const restSeconds = ((performance.now() - endMs) / 1000).toFixed(0);
    return {
      comparisons: [
        {
          beside: "live bytes",
          unit: "MB",
          ours: [last.usedBytes / 1e6],
          theirs: [last.liveBytes / 1e6],
          target: { under: limit },
        },
      ],
      notes: [
        `du of the store ${restSeconds} s after the last write, when it had come under ${limit}, or ` +
          `after ${restMs / 1000} s; as the writing ended ${ratio(atEnd).toFixed(2)}, at most ` +
          `${(peakBytes / atEnd.liveBytes).toFixed(2)} meanwhile`,
      ],
    };
  } finally {
    await kelpie.stop();
  }
}

/** Every block once, in no order, and that three times. */
async function overwrite(kelpie: Kelpie, diskBytes: number): Promise<Space> {
  for (let time = 0; time < times; time++) {
    const result = await runFio({
      uri: kelpie.uri,
      rw: "randwrite",
      queueDepth: 32,
      eachBlockOnce: true,
      totalBytes: diskBytes,
    });
    if (result.totalBytes < diskBytes) throw new NotMeasured("fio ended early");
  }
  return await spaceOf(kelpie);
}

async function spaceOf(kelpie: Kelpie): Promise<Space> {
  const { liveBytes } = await kelpie.info();
  return { usedBytes: await allocatedBytes(kelpie.directory), liveBytes };
}

function ratio({ usedBytes, liveBytes }: Space): number {
  return usedBytes / liveBytes;
}
