import { monitorEventLoopDelay } from "node:perf_hooks";
import { SeededRandom } from "../../sim/random.ts";
import type { CallOutput } from "../../src/control/calls.ts";
import { type LocalStore, openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { overwrite } from "./history.ts";

export interface Memory {
  rssBytes: number;
  heapBytes: number;
  /** Maps and buffers. */
  buffersBytes: number;
}

/** What one operation cost: the median of several, and the least and the worst of them. */
export interface Cost {
  what: string;
  ms: number;
  /** What other processes do meanwhile makes it longer and never shorter. Older results do not have it. */
  leastMs?: number;
  worstMs: number;
  /** Of segments and maps. */
  reads: number;
  /** Of the catalog. */
  records: number;
  samples: number;
}

export interface OpenCost {
  ms: number;
  firstReadMs: number;
  before: Memory;
  after: Memory;
  replayedEntries: number;
}

interface Disk {
  directory: string;
  name: string;
}

const blockBytes = 4096;
/** Random blocks that a disk is overwritten with before it is compared. */
const changedBlocks = 1000;

/** Opens a store in this process, which has done nothing else, and reads one block. */
export async function measureOpen({ directory, name }: Disk): Promise<OpenCost> {
  const host = createNodeHost({ logLevel: "warn" });
  const before = memory();
  const startMs = performance.now();
  const store = await openLocalStore({ directory }, { host });
  const ms = performance.now() - startMs;
  const after = memory();
  const readMs = performance.now();
  await store.vdis.volume(name).read(Buffer.alloc(blockBytes), 0);
  const firstReadMs = performance.now() - readMs;
  const { replayedEntries } = store.vdis.store;
  // Not closed: opening must not have changed anything that the next one would see.
  setImmediate(() => process.exit(0));
  return { ms, firstReadMs, before, after, replayedEntries };
}

export interface OperationsInput extends Disk {
  samples: number;
}

/** Snapshot, rollback, clone, list, diff and delete, on a disk that has at least one snapshot. */
export async function measureOperations(
  input: OperationsInput,
): Promise<{ costs: Cost[]; memory: Memory }> {
  const { directory, name, samples } = input;
  const store = await openQuick(directory);
  const { control } = store;
  const [base] = store.vdis.registry.snapshotsOf(name);
  if (base === undefined) throw new Error(`${name} has no snapshot`);
  const from = `#${base.snapId}`;
  const random = new SeededRandom(5);
  const costs: Cost[] = [];
  const measure = async (what: string, action: (round: number) => Promise<unknown>) => {
    costs.push(await measureOne(store, { what, samples, action }));
  };
  await overwrite(store, { name, random, count: changedBlocks });
  await store.control.call("vdi.snapshot", { names: [name], tag: "compared" });
  await measure("list", () => control.call("vdi.list", {}));
  const before = `#${store.vdis.registry.snapshotsOf(name).at(-2)?.snapId}`;
  await measure("diff", () => diffAll(store, { name, from: before, to: "compared" }));
  await measure("snapshot", (round) =>
    control.call("vdi.snapshot", { names: [name], tag: `extra${round}` }),
  );
  costs.push(
    await measureOne(store, {
      what: "snapshot, dirty",
      samples,
      before: () => overwrite(store, { name, random, count: changedBlocks }),
      action: (round) => control.call("vdi.snapshot", { names: [name], tag: `dirty${round}` }),
    }),
  );
  await measure("rollback", () => control.call("vdi.rollback", { names: [name], snapshot: from }));
  await measure("clone", (round) =>
    control.call("vdi.clone", { source: name, snapshot: from, name: `clone${round}` }),
  );
  const listed = store.vdis.registry.snapshotsOf(name);
  const middle = Math.max(1, Math.floor(listed.length / 2) - samples);
  await measure("delete snapshot", (round) => {
    const snapshot = `#${listed[middle + round]?.snapId}`;
    return control.call("vdi.delete", { name, snapshot });
  });
  await measure("delete clone", (round) => control.call("vdi.delete", { name: `clone${round}` }));
  const after = memory();
  await store.close();
  return { costs, memory: after };
}

/** All pages of the answer. */
async function diffAll(
  store: LocalStore,
  points: { name: string; from: string; to: string },
): Promise<number> {
  let ranges = 0;
  for (let offset: number | null = 0; offset !== null; ) {
    const page: CallOutput<"vdi.diff"> = await store.control.call("vdi.diff", {
      ...points,
      offset,
    });
    ranges += page.ranges.length;
    offset = page.next;
  }
  return ranges;
}

/** Reads at random over a whole disk, with 32 under way: what maps take when all of them are wanted. */
export async function measureReads(input: Disk & { runtimeMs: number }): Promise<Memory> {
  const { directory, name, runtimeMs } = input;
  const host = createNodeHost({ logLevel: "warn" });
  const store = await openLocalStore({ directory }, { host });
  const volume = store.vdis.volume(name);
  const blocks = volume.sizeBytes / blockBytes;
  const random = new SeededRandom(3);
  const endMs = performance.now() + runtimeMs;
  const reader = async () => {
    const target = Buffer.alloc(blockBytes);
    while (performance.now() < endMs) {
      await volume.read(target, random.below(blocks) * blockBytes);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await Promise.all(Array.from({ length: 32 }, reader));
  const after = memory();
  setImmediate(() => process.exit(0));
  return after;
}

/** Reads one block of every snapshot: what a backup of each would bring into memory to begin with. */
export async function measureWalk({ directory, name }: Disk): Promise<Walk> {
  const store = await openQuick(directory);
  const startMs = performance.now();
  const target = Buffer.alloc(blockBytes);
  for (const { point } of store.vdis.registry.snapshotsOf(name)) {
    await store.vdis.store.read(store.vdis.store.point(point), { target, first: 0 });
  }
  const ms = performance.now() - startMs;
  const { residentBytes } = store.vdis.store.state.nodes;
  const after = memory();
  setImmediate(() => process.exit(0));
  return { ms, after, residentBytes };
}

export interface Walk {
  ms: number;
  after: Memory;
  /** What the store thinks that maps take. */
  residentBytes: number;
}

export interface EndCost {
  /** Snapshots; with all of them the disk, too. */
  deleted: number;
  /** Until the caller has its answer. */
  ms: number;
  /** Until the space is counted as free. */
  purgeMs: number;
  cpuMs: number;
  /** The longest that anything else had to wait meanwhile. */
  stallMs: number;
  after: Memory;
}

/** Snapshots deleted at most: what one costs is told by so many as well. */
const deletedMax = 1000;

/** Deletes snapshots, oldest first, and with the last the disk; waits until what they held is free. */
export async function measureEnd({ directory, name }: Disk): Promise<EndCost> {
  const store = await openQuick(directory);
  const { control } = store;
  const all = store.vdis.registry.snapshotsOf(name);
  const doomed = all.slice(0, deletedMax);
  const cost = await measurePurge(store, doomed.length, async () => {
    for (const { snapId } of doomed) {
      await control.call("vdi.delete", { name, snapshot: `#${snapId}` });
    }
    if (doomed.length < all.length) return;
    await control.call("vdi.delete", { name });
    await control.call("vdi.purge", {});
  });
  await store.close();
  return cost;
}

async function measurePurge(
  store: LocalStore,
  deleted: number,
  action: () => Promise<unknown>,
): Promise<EndCost> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  await action();
  const ms = performance.now() - startMs;
  const { deletedPoints } = store.vdis.store.state;
  const hasPurgeable = () => [...deletedPoints].some(({ children }) => children.size <= 1);
  while (hasPurgeable()) await new Promise((resolve) => setTimeout(resolve, 2));
  const purgeMs = performance.now() - startMs;
  const used = process.cpuUsage(cpu);
  delay.disable();
  const cpuMs = (used.user + used.system) / 1000;
  return { deleted, ms, purgeMs, cpuMs, stallMs: delay.max / 1e6, after: memory() };
}

/** Background work begins as soon as there is some: what is measured is the work, not the wait for it. */
function openQuick(directory: string): Promise<LocalStore> {
  const host = createNodeHost({ logLevel: "warn" });
  return openLocalStore({ directory, maintenance: { intervalMs: 20 } }, { host });
}

async function measureOne(
  store: LocalStore,
  one: {
    what: string;
    samples: number;
    before?: () => Promise<unknown>;
    action: (round: number) => Promise<unknown>;
  },
): Promise<Cost> {
  const { catalog, reader, state } = store.vdis.store;
  const samples: { reads: number; records: number; ms: number }[] = [];
  for (let round = 0; round < one.samples; round++) {
    await one.before?.();
    // What is going on in the background is measured elsewhere.
    await store.vdis.store.exclusively(async () => {});
    const reads = reader.reads + state.mapObjects.reads;
    const { records } = catalog;
    const startMs = performance.now();
    await one.action(round);
    samples.push({
      ms: performance.now() - startMs,
      reads: reader.reads + state.mapObjects.reads - reads,
      records: catalog.records - records,
    });
  }
  samples.sort((a, b) => a.ms - b.ms);
  const median = samples[Math.floor(samples.length / 2)] ?? { ms: 0, reads: 0, records: 0 };
  const [leastMs, worstMs] = [samples[0]?.ms ?? 0, samples.at(-1)?.ms ?? 0];
  return { what: one.what, ...median, leastMs, worstMs, samples: samples.length };
}

/** After everything that can be collected is. */
export function memory(): Memory {
  for (let round = 0; round < 3; round++) globalThis.gc?.();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  return { rssBytes: rss, heapBytes: heapUsed, buffersBytes: arrayBuffers };
}
