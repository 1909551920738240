import { createNodeHost } from "../../src/host/node/node-host.ts";
import { connectNbd } from "../../src/nbd/client.ts";
import { parseNbdUri } from "../../src/nbd/uri.ts";
import { SheepdogClient } from "../../src/sheepdog/client.ts";
import { RemoteVolume } from "../../src/sheepdog/client-volume.ts";
import type { Bench, Figure } from "../bench.ts";
import { type DeviceLoad, loadDevice } from "../device-load.ts";
import type { Measurement } from "../report.ts";
import { inTurns, type Turn, writeBack } from "../turns.ts";

const queueDepth = 32;
const unit = "/s";
const target = "0.5 x our NBD client on the same disk";

/** The same disk of the same server by both protocols, asked by Kelpie's own clients in this process. */
export const sheepdog: Figure[] = [
  {
    id: "sheepdog-read-32",
    name: "4 KiB random read over Sheepdog's protocol, queue depth 32",
    target,
    phase: "filled",
    measure: (bench) => measure(bench, "read"),
  },
  {
    id: "sheepdog-write-32",
    name: "4 KiB random write over Sheepdog's protocol, queue depth 32",
    target,
    phase: "written",
    measure: (bench) => measure(bench, "write"),
  },
];

async function measure(bench: Bench, kind: DeviceLoad["kind"]): Promise<Measurement> {
  const { turnMs, scratch } = bench.settings;
  const kelpie = await bench.server("Kelpie");
  const host = createNodeHost({ logLevel: "silent" });
  const { address, exportName } = parseNbdUri(kelpie.uri);
  const nbd = await connectNbd({ address, exportName }, host);
  const client = await SheepdogClient.connect({ nodes: [kelpie.sheepdog] }, host);
  try {
    const changeBases = async () => [];
    const volume = await RemoteVolume.open(kelpie.disk, { client, changeBases });
    const devices = { NBD: nbd, Sheepdog: volume };
    const turns = Object.entries(devices).map(
      ([name, device]): Turn => ({
        name,
        ...(kind === "write" ? { before: () => writeBack(scratch) } : {}),
        run: async () => {
          const load = { kind, queueDepth, runtimeMs: turnMs };
          const rate = await bench.alone(kelpie, () => loadDevice(device, load));
          if (kind === "write") await kelpie.settle();
          return rate;
        },
      }),
    );
    // The clients are this process: what is compiled in the first round must not count.
    const values = await inTurns(turns, { ...bench.settings, warmUp: true });
    const ours = values.get("Sheepdog") ?? [];
    const theirs = values.get("NBD") ?? [];
    const beside = "our NBD client";
    return { comparisons: [{ beside, unit, ours, theirs, target: { atLeast: 0.5 } }] };
  } finally {
    await Promise.allSettled([nbd.close(), client.close()]);
  }
}
