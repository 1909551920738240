/**
 * npm run bench: what an operation costs with 1, 10, 100 and 1,000 snapshots behind the disk, each taken
 * after 4 MiB of random 4 KiB writes in a hot set of 64 MiB. Reads of segments and maps, and catalog
 * records, do not depend on the machine; milliseconds do, and are the median of five.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SeededRandom } from "../sim/random.ts";
import { openLocalStore } from "../src/control/local-store.ts";
import { createNodeHost } from "../src/host/node/node-host.ts";

const blockBytes = 4096;
const hotBlocks = 16_384;
const writesEach = 1024;
const depths = process.argv.includes("--quick") ? [1, 10, 100] : [1, 10, 100, 1000];

const directory = await mkdtemp(join(tmpdir(), "kelpie-bench-"));
const store = await openLocalStore({ directory, create: true }, { host: createNodeHost() });
const random = new SeededRandom(1);
await store.control.call("vdi.create", { name: "disk", sizeBytes: 2 ** 30 });
console.log("snapshots  operation           reads  records        ms");
let taken = 0;
let extra = 0;
for (const depth of depths) {
  for (; taken < depth; taken++) {
    await overwrite();
    await store.control.call("vdi.snapshot", { names: ["disk"], tag: `s${taken}` });
  }
  await measure(depth, "list", () => store.control.call("vdi.list", {}));
  await measure(depth, "info", () => store.control.call("vdi.info", { name: "disk" }));
  await measure(depth, "read 64 MiB", readAll);
  await measure(depth, "snapshot", snapshot);
  await measure(depth, "rollback to first", () => rollback("s0"));
  // And to where it was: the newest of those just taken.
  await rollback(`extra${extra - 1}`);
}
await store.close();
await rm(directory, { recursive: true });

async function snapshot(): Promise<void> {
  await store.control.call("vdi.snapshot", { names: ["disk"], tag: `extra${extra++}` });
}

async function rollback(tag: string): Promise<void> {
  await store.control.call("vdi.rollback", { names: ["disk"], snapshot: tag });
}

async function readAll(): Promise<void> {
  await store.vdis.volume("disk").read(Buffer.allocUnsafe(hotBlocks * blockBytes), 0);
}

async function overwrite(): Promise<void> {
  const volume = store.vdis.volume("disk");
  const writes: Promise<void>[] = [];
  for (let count = 0; count < writesEach; count++) {
    const data = Buffer.alloc(blockBytes, count);
    writes.push(Promise.resolve(volume.write([data], random.below(hotBlocks) * blockBytes)));
  }
  await Promise.all(writes);
}

async function measure(depth: number, what: string, action: () => Promise<unknown>) {
  const { catalog, reader, state } = store.vdis.store;
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
  console.log(`${String(depth).padStart(9)}  ${what.padEnd(17)}${columns.join("")}`);
}
