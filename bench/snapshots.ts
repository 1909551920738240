import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SeededRandom } from "../sim/random.ts";
import { type LocalStore, openLocalStore } from "../src/control/local-store.ts";
import { createNodeHost } from "../src/host/node/node-host.ts";

const blockBytes = 4096;
const hotBlocks = 16_384;
const writesEach = 1024;

/**
 * What an operation costs with 1, 10, 100 and 1,000 snapshots behind the disk, each taken after 4 MiB of
 * random 4 KiB writes in a hot set of 64 MiB. Reads of segments and maps, and catalog records, do not depend
 * on the machine; milliseconds do, and are the median of five.
 */
export async function measureSnapshots(
  form: "quick" | "full",
  print: (line: string) => void,
): Promise<void> {
  const depths = form === "quick" ? [1, 10, 100] : [1, 10, 100, 1000];
  const directory = await mkdtemp(join(tmpdir(), "kelpie-bench-"));
  const store = await openLocalStore({ directory, create: true }, { host: createNodeHost() });
  try {
    await new SnapshotCosts(store, print).measure(depths);
  } finally {
    await store.close();
    await rm(directory, { recursive: true });
  }
}

class SnapshotCosts {
  readonly #store: LocalStore;
  readonly #print: (line: string) => void;
  readonly #random = new SeededRandom(1);
  #taken = 0;
  #extra = 0;

  constructor(store: LocalStore, print: (line: string) => void) {
    this.#store = store;
    this.#print = print;
  }

  async measure(depths: readonly number[]): Promise<void> {
    const { control } = this.#store;
    await control.call("vdi.create", { name: "disk", sizeBytes: 2 ** 30 });
    this.#print("snapshots  operation           reads  records        ms");
    for (const depth of depths) {
      for (; this.#taken < depth; this.#taken++) {
        await this.#overwrite();
        await control.call("vdi.snapshot", { names: ["disk"], tag: `s${this.#taken}` });
      }
      await this.#operation(depth, "list", () => control.call("vdi.list", {}));
      await this.#operation(depth, "info", () => control.call("vdi.info", { name: "disk" }));
      await this.#operation(depth, "read 64 MiB", () => this.#readAll());
      await this.#operation(depth, "snapshot", () =>
        control.call("vdi.snapshot", { names: ["disk"], tag: `extra${this.#extra++}` }),
      );
      await this.#operation(depth, "rollback to first", () => this.#rollback("s0"));
      // And to where it was: the newest of those just taken.
      await this.#rollback(`extra${this.#extra - 1}`);
    }
  }

  #rollback(tag: string): Promise<unknown> {
    return this.#store.control.call("vdi.rollback", { names: ["disk"], snapshot: tag });
  }

  async #readAll(): Promise<void> {
    const volume = this.#store.vdis.volume("disk");
    await volume.read(Buffer.allocUnsafe(hotBlocks * blockBytes), 0);
  }

  async #overwrite(): Promise<void> {
    const volume = this.#store.vdis.volume("disk");
    const writes: Promise<void>[] = [];
    for (let count = 0; count < writesEach; count++) {
      const data = Buffer.alloc(blockBytes, count);
      const offset = this.#random.below(hotBlocks) * blockBytes;
      writes.push(Promise.resolve(volume.write([data], offset)));
    }
    await Promise.all(writes);
  }

  async #operation(depth: number, what: string, action: () => Promise<unknown>): Promise<void> {
    const { catalog, reader, state } = this.#store.vdis.store;
    const samples: { reads: number; records: number; ms: number }[] = [];
    for (let round = 0; round < 5; round++) {
      const reads = reader.reads + state.mapObjects.reads;
      const { records } = catalog;
      const start = performance.now();
      await action();
      samples.push({
        reads: reader.reads + state.mapObjects.reads - reads,
        records: catalog.records - records,
        ms: performance.now() - start,
      });
    }
    samples.sort((a, b) => a.ms - b.ms);
    const { reads, records, ms } = samples[2] as (typeof samples)[0];
    const columns = [reads, records, ms.toFixed(2)].map((value) => String(value).padStart(9));
    this.#print(`${String(depth).padStart(9)}  ${what.padEnd(17)}${columns.join("")}`);
  }
}
