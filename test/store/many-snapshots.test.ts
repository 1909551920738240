import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import { type LocalStore, openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { isSoak } from "../support/soak.ts";

const blockBytes = 4096;
/** A hot set of 64 MiB; 4 MiB of it written at random before each snapshot. */
const hotBlocks = 16_384;
const writesEach = 1024;
const snapshots = isSoak ? 1000 : 120;

describe(`${snapshots} snapshots of one disk`, () => {
  let directory = "";
  let store: LocalStore;
  /** What each block holds now, and held at the oldest snapshot. */
  const content = new Uint32Array(hotBlocks);
  let oldest = new Uint32Array(0);
  let withOne = { readCost: 0, listCost: 0 };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "kelpie-many-"));
    const host = createNodeHost({});
    store = await openLocalStore({ directory, create: true }, { host });
    await store.control.call("vdi.create", { name: "disk", sizeBytes: 2 ** 30 });
    const random = new SeededRandom(1);
    for (let taken = 1; taken <= snapshots; taken++) {
      await overwrite(random, taken * hotBlocks);
      await store.control.call("vdi.snapshot", { names: ["disk"], tag: `s${taken}` });
      if (taken > 1) continue;
      oldest = content.slice();
      withOne = { readCost: await costOf(readAll), listCost: await costOf(list) };
    }
  });

  after(async () => {
    await store?.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("reading costs what the place of its blocks costs, and nothing for the depth", async () => {
    const cost = await costOf(readAll);
    // Each block may have been written by another snapshot: at most a read a block, as with one.
    assert.ok(cost <= hotBlocks, `${cost} reads for ${hotBlocks} blocks`);
    assert.ok(withOne.readCost > 0);
  });

  test("listing reads nothing from the disk", async () => {
    assert.equal(withOne.listCost, 0);
    assert.equal(await costOf(list), 0);
    const entries = await store.control.call("vdi.list", {});
    assert.equal(entries.length, snapshots + 1);
  });

  test("rollback to the oldest is one record, and reads as it was", async () => {
    const records = store.vdis.store.catalog.records;
    const cost = await costOf(() =>
      store.control.call("vdi.rollback", { names: ["disk"], snapshot: "s1" }),
    );
    assert.equal(store.vdis.store.catalog.records, records + 1);
    assert.equal(cost, 0, "a rollback reads nothing");
    await mustRead(oldest);
    await store.control.call("vdi.undelete", { name: "disk" });
    await mustRead(content);
  });

  test("deleting every second one returns their space", async () => {
    await store.control.call("vdi.purge", {});
    for (let taken = 2; taken <= snapshots; taken += 2) {
      await store.control.call("vdi.delete", { name: "disk", snapshot: `s${taken}` });
    }
    const { usedBytes, liveBytes } = await store.control.call("store.clean", {});
    const onDisk = Number(execFileSync("du", ["-sB1", directory]).toString().split("\t")[0]);
    assert.ok(liveBytes > 0);
    assert.ok(usedBytes < 1.5 * liveBytes, `${usedBytes} used for ${liveBytes} live`);
    assert.ok(onDisk < 1.5 * liveBytes, `${onDisk} on the disk for ${liveBytes} live`);
    await mustRead(content);
    const { findings } = await store.control.call("store.check", {});
    assert.deepEqual(findings, []);
  });

  test("the next open has nothing to recover, and everything is there", async () => {
    await store.close();
    store = await openLocalStore({ directory }, { host: createNodeHost({}) });
    assert.equal(store.vdis.store.replayedEntries, 0);
    await mustRead(content);
    const entries = await store.control.call("vdi.list", { name: "disk" });
    assert.equal(entries.length, Math.ceil(snapshots / 2) + 1);
  });

  async function overwrite(random: SeededRandom, base: number): Promise<void> {
    const volume = store.vdis.volume("disk");
    const writes: Promise<void>[] = [];
    for (let count = 0; count < writesEach; count++) {
      const block = random.below(hotBlocks);
      const number = base + count;
      content[block] = number;
      writes.push(Promise.resolve(volume.write([contentOf(number)], block * blockBytes)));
    }
    await Promise.all(writes);
  }

  async function mustRead(expected: Uint32Array): Promise<void> {
    const bytes = await readAll();
    for (let block = 0; block < hotBlocks; block++) {
      const found = bytes.subarray(block * blockBytes, (block + 1) * blockBytes);
      const number = expected[block] as number;
      assert.ok(found.equals(contentOf(number)), `block ${block} is not ${number}`);
    }
  }

  async function readAll(): Promise<Buffer> {
    const target = Buffer.alloc(hotBlocks * blockBytes);
    await store.vdis.volume("disk").read(target, 0);
    return target;
  }

  async function list(): Promise<void> {
    await store.control.call("vdi.list", {});
  }

  /** Reads of segments and maps that `action` takes. */
  async function costOf(action: () => Promise<unknown>): Promise<number> {
    const { reader, state } = store.vdis.store;
    const before = reader.reads + state.mapObjects.reads;
    await action();
    return reader.reads + state.mapObjects.reads - before;
  }
});

function contentOf(number: number): Buffer {
  const pattern = Buffer.alloc(4);
  pattern.writeUInt32LE(number);
  return Buffer.alloc(blockBytes, pattern);
}
