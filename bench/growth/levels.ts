import { SeededRandom } from "../../sim/random.ts";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { ServerProcess } from "../../test/support/server-process.ts";
import { runFio } from "../fio.ts";
import { overwrite } from "./history.ts";

export interface LevelsInput {
  directory: string;
  sizeBytes: number;
  levels: number;
  writesEach: number;
}

const fillBytes = 4 * 2 ** 20;

/** Two disks full of data: "shallow" with one snapshot, "deep" with many, random blocks before each. */
export async function buildLevels(input: LevelsInput): Promise<void> {
  const { directory, sizeBytes, levels, writesEach } = input;
  const host = createNodeHost({ logLevel: "warn" });
  const store = await openLocalStore({ directory, create: true }, { host });
  try {
    for (const name of ["shallow", "deep"]) {
      await store.control.call("vdi.create", { name, sizeBytes });
      const volume = store.vdis.volume(name);
      const data = Buffer.alloc(fillBytes, name);
      for (let offset = 0; offset < sizeBytes; offset += fillBytes) {
        await volume.write([data], offset);
      }
      const random = new SeededRandom(9);
      for (let level = 0; level < (name === "deep" ? levels : 1); level++) {
        await overwrite(store, { name, random, count: writesEach });
        await store.control.call("vdi.snapshot", { names: [name], tag: `level${level}` });
      }
    }
  } finally {
    await store.close();
  }
}

export interface LevelsResult {
  /** Requests a second of each turn. */
  shallow: number[];
  deep: number[];
}

/** Random reads of both disks over NBD, in turns, so that what the machine does meanwhile hits both. */
export async function measureLevels(input: {
  directory: string;
  rounds: number;
  runtimeMs: number;
}): Promise<LevelsResult> {
  const { directory, rounds, runtimeMs } = input;
  await using server = await ServerProcess.start(directory);
  const result: LevelsResult = { shallow: [], deep: [] };
  // The first turn of each brings maps and data into memory and does not count.
  for (let round = 0; round <= rounds; round++) {
    for (const name of ["shallow", "deep"] as const) {
      const job = { uri: server.uri(name), rw: "randread", queueDepth: 32, runtimeMs } as const;
      const { requestsPerSecond } = await runFio(job);
      if (round > 0) result[name].push(requestsPerSecond);
    }
  }
  return result;
}
