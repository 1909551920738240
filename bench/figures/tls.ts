import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { formatNbdUri } from "../../src/nbd/uri.ts";
import type { Bench, Figure } from "../bench.ts";
import { type FioJob, runFio } from "../fio.ts";
import type { Kelpie } from "../peers/kelpie.ts";
import type { Measurement } from "../report.ts";
import { inTurns, type Turn, writeBack } from "../turns.ts";

const target = "0.5 x the same in the clear";

/** The same disk of the same server over the same socket, with TLS and without. */
export const tls: Figure[] = [
  {
    id: "tls-read-32",
    name: "4 KiB random read in TLS, queue depth 32",
    target,
    phase: "own store",
    measure: (bench) => measure(bench, "randread"),
  },
  {
    id: "tls-write-32",
    name: "4 KiB random write in TLS, queue depth 32",
    target,
    phase: "own store",
    measure: (bench) => measure(bench, "randwrite"),
  },
];

const program = `${import.meta.dirname}/../../bin/kelpie`;

async function measure(bench: Bench, rw: FioJob["rw"]): Promise<Measurement> {
  const { turnMs, scratch, diskBytes } = bench.settings;
  const certificates = `${scratch}/tls-${rw}`;
  await promisify(execFile)(process.execPath, [program, "tls", "init", certificates]);
  const kelpie = await bench.freshKelpie(diskBytes, ["--tls-dir", certificates]);
  try {
    const uris = { TLS: secureUri(kelpie), "the clear": kelpie.uri };
    const turns = Object.entries(uris).map(
      ([name, uri]): Turn => ({
        name,
        ...(rw === "randwrite" ? { before: () => writeBack(scratch) } : {}),
        run: async () => {
          const job = { uri, rw, queueDepth: 32, runtimeMs: turnMs };
          const { requestsPerSecond } = await bench.alone(kelpie, () => runFio(job));
          if (rw === "randwrite") await kelpie.settle();
          return requestsPerSecond;
        },
      }),
    );
    const values = await inTurns(turns, bench.settings);
    return {
      comparisons: [
        {
          beside: "in the clear",
          unit: "/s",
          ours: values.get("TLS") ?? [],
          theirs: values.get("the clear") ?? [],
          target: { atLeast: 0.5 },
        },
      ],
      notes: ["fio encrypts in a process of its own, beside the server"],
    };
  } finally {
    await kelpie.stop();
  }
}

/** fio may not name a directory of certificates; what it is to measure does not depend on whom it trusts. */
function secureUri({ address, disk }: Kelpie): string {
  const uri = formatNbdUri({ address, exportName: disk, tls: {} });
  return `${uri}&tls-verify-peer=false`;
}
