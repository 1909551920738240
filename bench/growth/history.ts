import { SeededRandom } from "../../sim/random.ts";
import { type LocalStore, openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";

export interface HistoryInput {
  directory: string;
  name: string;
  /** How many snapshots there shall be, those included that are there already. */
  snapshots: number;
  /** Random blocks written before each. */
  writesEach: number;
  /** Writes go into the first bytes of the disk only; the whole disk if absent. */
  hotBytes?: number;
}

const blockBytes = 4096;

/** Takes snapshots of a disk, each after a few random writes. Answers with how long that took. */
export async function growHistory(input: HistoryInput): Promise<{ ms: number }> {
  const { directory, name, snapshots, writesEach, hotBytes } = input;
  const store = await openLocalStore({ directory }, { host: createNodeHost({ logLevel: "warn" }) });
  const startMs = performance.now();
  try {
    const first = store.vdis.registry.snapshotsOf(name).length;
    const random = new SeededRandom(first + 1);
    for (let taken = first; taken < snapshots; taken++) {
      await overwrite(store, { name, random, count: writesEach, hotBytes });
      await store.control.call("vdi.snapshot", { names: [name], tag: `s${taken}` });
    }
    return { ms: performance.now() - startMs };
  } finally {
    await store.close();
  }
}

/** Random blocks, each a request of its own, all at once. */
export async function overwrite(
  store: LocalStore,
  what: { name: string; random: SeededRandom; count: number; hotBytes?: number | undefined },
): Promise<void> {
  const { name, random, count, hotBytes } = what;
  const volume = store.vdis.volume(name);
  const blocks = (hotBytes ?? volume.sizeBytes) / blockBytes;
  const writes: Promise<void>[] = [];
  for (let index = 0; index < count; index++) {
    const data = Buffer.alloc(blockBytes, index + 1);
    writes.push(Promise.resolve(volume.write([data], random.below(blocks) * blockBytes)));
  }
  await Promise.all(writes);
}
