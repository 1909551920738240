import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import type { BlockDevice } from "../../src/block/block-device.ts";
import { createControl } from "../../src/control/control.ts";
import { noCopyNotes } from "../../src/control/copy-state.ts";
import { VdiCopy } from "../../src/control/vdi-copy.ts";
import type { Vms } from "../../src/control/vms.ts";
import type { Net } from "../../src/host/net.ts";
import { SheepdogClient } from "../../src/sheepdog/client.ts";
import { RemoteExports } from "../../src/sheepdog/client-exports.ts";
import { describePoints } from "../../src/sheepdog/client-points.ts";
import { RemoteVdis } from "../../src/sheepdog/client-vdis.ts";
import { VdiExports } from "../../src/vdi/vdi-exports.ts";
import { blockDeviceSuite } from "../conformance/block-device-suite.ts";
import { MemoryNet } from "../support/memory-net.ts";
import { openMemoryObjects } from "../support/memory-objects.ts";
import { type Cut, CutNet } from "../support/sheep/cut-net.ts";
import { QuickTimers } from "../support/sheep/quick-timers.ts";
import { isSoak } from "../support/soak.ts";
import { serveStoreOn } from "./served-store.ts";

const mebibyte = 2 ** 20;
const where = { kind: "tcp", host: "127.0.0.1", port: 7000 } as const;
const someone = { protocol: "nbd", peer: "a test" } as const;

/** Kelpie's client and Kelpie's server, with a store in memory. */
async function world({ locking = false } = {}) {
  const net = new MemoryNet();
  const timers = new QuickTimers();
  const served = await serveStoreOn(where, { net, timers, locking });
  const clients: SheepdogClient[] = [];
  const connect = async (over: Net = net): Promise<RemoteVdis> => {
    const client = await SheepdogClient.connect({ nodes: [where] }, { net: over, timers });
    clients.push(client);
    return new RemoteVdis({ url: "sheepdog://127.0.0.1:7000" }, { client });
  };
  return {
    ...served,
    net,
    connect,
    remote: await connect(),
    async end(): Promise<void> {
      for (const client of clients) await client.close();
      await served.close();
    },
  };
}

blockDeviceSuite(
  "a VDI of Kelpie's over Sheepdog's protocol",
  async (sizeBytes) => {
    const parts = await world();
    // Objects of 1 MiB tell holes finely enough; of 8 MiB they make a large disk.
    const blockSizeShift = sizeBytes > 2 ** 40 ? 23 : 20;
    const plain = { baseVid: 0, snapshot: false, storePolicy: 0, copies: 0, copyPolicy: 0 };
    await parts.objects.newVdi({ name: "disk", sizeBytes, blockSizeShift, ...plain });
    const { volume } = await parts.remote.volumes.open("disk");
    return { device: volume, close: () => parts.end() };
  },
  { historiesMax: 10 },
);

describe("the client and the server", () => {
  test("do every operation on a disk, and agree with NBD on what is there", async () => {
    const { remote, vdis, end } = await world();
    await remote.create("disk", 16 * mebibyte);
    const { volume } = await remote.volumes.open("disk");
    await volume.write([filled(3 * mebibyte, 1)], 2 * mebibyte);
    await remote.snapshot("disk", "one");
    await volume.write([filled(512, 2)], 2 * mebibyte);
    await remote.snapshot("disk", "two");
    await volume.zero(4 * mebibyte, 4 * mebibyte);
    assert.equal(await byte(volume, 4 * mebibyte), 0);
    assert.equal(await byte(vdis.volume("disk"), 2 * mebibyte), 2);
    await remote.rollback("disk", "one", true);
    assert.equal(await byte(volume, 2 * mebibyte), 1);
    assert.equal(await byte(volume, 4 * mebibyte), 1);
    await remote.clone("disk", "two", "clone");
    await remote.deleteSnapshot("disk", "two");
    assert.equal(await byte(vdis.volume("clone"), 2 * mebibyte), 2);
    await remote.resize("disk", 20 * mebibyte);
    await volume.write([filled(512, 3)], 20 * mebibyte - 512);
    assert.equal(await byte(vdis.volume("disk"), 20 * mebibyte - 512), 3);
    const points = await describePoints(remote.client);
    assert.deepEqual(points.map(({ name, kind, tag }) => `${name} ${kind} ${tag}`.trim()).sort(), [
      "clone working",
      "disk snapshot one",
      "disk working",
    ]);
    await end();
  });

  test("a lock that went with its connection is taken again, or the disk is closed", async () => {
    const { remote, net, connect, end } = await world({ locking: true });
    await remote.create("disk", 4 * mebibyte);
    const { volume } = await remote.volumes.open("disk");
    await volume.write([filled(512, 1)], 0);
    await remote.snapshot("disk", "one");
    for (const connection of net.accepted) connection.destroy();
    await volume.write([filled(512, 2)], 0);
    await assert.rejects((await connect()).client.lock({ name: "disk" }), { code: "busy" });
    for (const connection of net.accepted) connection.destroy();
    await (await connect()).client.lock({ name: "disk" });
    await assert.rejects(volume.write([filled(512, 3)], 0), { code: "busy" });
    await end();
  });

  test("what the client deletes, though it wipes it first, can be brought back", async () => {
    const { remote, vdis, end } = await world();
    // Of a single object.
    await remote.create("disk", 4 * mebibyte);
    await remote.volumes.using("disk", (volume) => volume.write([filled(512, 1)], 0));
    await remote.snapshot("disk", "one");
    await remote.volumes.using("disk", (volume) => volume.write([filled(512, 2)], 0));
    await remote.delete("disk");
    await vdis.undelete("disk", {});
    assert.equal(await byte(vdis.volume("disk"), 0), 2);
    await end();
  });

  test("16 writers, snapshots over both protocols meanwhile: no write is lost", async () => {
    const { remote, vdis, end } = await world();
    await remote.create("disk", 64 * mebibyte);
    const { volume } = await remote.volumes.open("disk");
    const snapshotsMax = isSoak ? 100 : 20;
    let isOver = false;
    const last = new Uint8Array(16);
    const writers = Array.from({ length: 16 }, async (_, writer) => {
      for (let round = 1; !isOver || round < 20; round++) {
        // One block in every object, so that each snapshot makes new ones.
        const offset = (round % 16) * 4 * mebibyte + writer * 4096;
        const bytes = filled(4096, round % 256);
        await volume.write([bytes], offset);
        // Then what it wrote last, in a place of its own.
        await volume.write([filled(512, round % 256)], 65_536 + writer * 512);
        last[writer] = round % 256;
      }
    });
    for (let taken = 1; taken <= snapshotsMax; taken++) {
      if (taken % 2 === 0) await remote.snapshot("disk", `s${taken}`);
      else await vdis.snapshot(["disk"], `s${taken}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    isOver = true;
    await Promise.all(writers);
    const again = await new RemoteExports({ vdis: remote }).open("disk", someone);
    for (const device of [volume, again.device, vdis.volume("disk")]) {
      for (const [writer, round] of last.entries()) {
        assert.equal(await byte(device, 65_536 + writer * 512), round, `writer ${writer}`);
      }
    }
    await end();
  });

  test("a copy from one store to another is the same at each of 20 snapshots, state and all", async () => {
    const { remote, objects, end } = await world();
    const random = new SeededRandom(11);
    await remote.create("disk", 8 * mebibyte);
    const { volume } = await remote.volumes.open("disk");
    await volume.write([random.bytes(6 * mebibyte)], mebibyte);
    for (let taken = 1; taken <= 20; taken++) {
      const state = { vmStateBytes: 70_000 + taken, vmClockNs: taken };
      if (taken % 10 === 0) {
        const oid = { kind: "vmstate", vid: volume.vid, index: 0 } as const;
        await remote.client.createObject({ oid, offset: 0, chunks: [random.bytes(80_000)] });
      }
      await remote.snapshot("disk", `s${taken}`, taken % 10 === 0 ? state : {});
      await volume.write([random.bytes(8192)], random.below(1000) * 8192);
      if (taken === 12) await remote.rollback("disk", "s4", true);
    }
    const target = await openMemoryObjects();
    const { vdis } = target;
    const exports = new VdiExports({ vdis });
    const vms = {} as Vms; // no machine runs here
    const control = createControl({ url: "/store" }, { vdis, vms, objects: target.objects });
    const openDevice = (name: string) => exports.open(name, someone);
    const points = await describePoints(remote.client);
    const copy = new VdiCopy(
      { points, nameOf: (name) => name },
      { client: remote.client, target: { control, openDevice }, notes: noCopyNotes },
    );
    assert.equal((await copy.run()).snapshots, 20);
    const origin = new RemoteExports({ vdis: remote });
    for (let taken = 0; taken <= 20; taken++) {
      const name = taken === 0 ? "disk" : `disk@#${taken}`;
      const [from, to] = [await origin.open(name, someone), await openDevice(name)];
      const bytes = [from, to].map(async ({ device }) => {
        const whole = new Uint8Array(8 * mebibyte);
        await device.read(whole, 0);
        return whole;
      });
      const [before, after] = await Promise.all(bytes);
      assert.ok(before !== undefined && after !== undefined);
      assert.equal(Buffer.compare(before, after), 0, name);
      await from.close();
      await to.close();
    }
    for (const snapId of [10, 20]) {
      const states = [objects, target.objects].map(async (side) => {
        const { vid } = await side.lookup({ name: "disk", tag: "", snapId });
        const state = new Uint8Array(70_000);
        await side.read({ kind: "vmstate", vid, index: 0 }, 0, state);
        return state;
      });
      assert.deepEqual(...((await Promise.all(states)) as [Uint8Array, Uint8Array]));
    }
    const mapped = vdis.store.cleaner.totals().liveBytes;
    assert.ok(mapped < 6.5 * mebibyte, `${mapped} bytes`);
    await vdis.close();
    await end();
  });

  test("a connection cut after any byte loses nothing and does nothing twice", async () => {
    const whole = await cutWorld(undefined);
    for (const direction of ["out", "in"] as const) {
      const step = isSoak ? 1 : Math.ceil(whole.passed[direction] / 40);
      for (let afterBytes = 1; afterBytes < whole.passed[direction]; afterBytes += step) {
        await cutWorld({ direction, afterBytes });
      }
    }
  });
});

/** Writes with a snapshot by somebody else in between, over a network that is cut once. */
async function cutWorld(cut: Cut | undefined) {
  const { net, connect, vdis, end } = await world();
  await vdis.create("disk", 12 * mebibyte);
  const cutting = new CutNet(cut, { net });
  const remote = await connect(cutting);
  const { volume } = await remote.volumes.open("disk");
  const random = new SeededRandom(1);
  const expected = new Map<number, Uint8Array>();
  const write = async (offset: number, length: number) => {
    const bytes = random.bytes(length);
    await volume.write([bytes], offset);
    expected.set(offset, bytes);
  };
  await Promise.all([write(10, 9), write(4 * mebibyte - 3, 6), write(8 * mebibyte, 5)]);
  await vdis.snapshot(["disk"], "one");
  await Promise.all([write(14_000, 9), write(4 * mebibyte + 100, 4)]);
  await volume.zero(8 * mebibyte, 4 * mebibyte);
  expected.set(8 * mebibyte, filled(5, 0));
  await volume.flush();
  const passed = { ...cutting.passed };
  for (const device of [volume, vdis.volume("disk")]) {
    for (const [offset, bytes] of expected) {
      const found = new Uint8Array(bytes.length);
      await device.read(found, offset);
      assert.deepEqual(found, bytes, `at ${offset} after a cut at ${JSON.stringify(cut)}`);
    }
  }
  await end();
  return { passed };
}

function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

async function byte(device: BlockDevice, offset: number): Promise<number | undefined> {
  const target = new Uint8Array(1);
  await device.read(target, offset);
  return target[0];
}
