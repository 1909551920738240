import assert from "node:assert/strict";
import { test } from "node:test";
import { filled, type MemoryVdis, openMemoryVdis } from "../../test/support/memory-vdis.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { limitDisk } from "./limit-disk.ts";
import { VdiExports } from "./vdi-exports.ts";

const mebibyte = 2 ** 20;
const client = { protocol: "library", peer: "test" } as const;

/** How many writes or reads, eight at a time, are done in a second. */
async function inOneSecond({ host }: MemoryVdis, device: BlockDevice, what: "read" | "write") {
  let [done, stop] = [0, false];
  const target = Buffer.alloc(4096);
  const one = async () => {
    // Without a limit it would go on for ever, for time stands still.
    while (!stop && done < 5000) {
      await (what === "read" ? device.read(target, 0) : device.write(filled(1), 0));
      done++;
    }
  };
  const all = Array.from({ length: 8 }, one);
  for (let ms = 0; ms < 1000 && done < 5000; ms += 5) await host.time.advance(5);
  stop = true;
  const counted = done;
  await host.time.advance(10_000);
  await Promise.all(all);
  return counted;
}

test("a disk does what its limit says, its snapshots with it, and its neighbour what it can", async () => {
  const memory = await openMemoryVdis();
  const { vdis } = memory;
  const exports = new VdiExports({ vdis });
  await vdis.create("slow", mebibyte, { qos: { opsPerSecond: 200, burstMs: 10 } });
  await vdis.create("fast", mebibyte);
  const slow = (await exports.open("slow", client)).device;
  const written = await inOneSecond(memory, slow, "write");
  assert.ok(written >= 195 && written <= 205, `${written} writes`);
  await vdis.snapshot(["slow"], "one");
  const frozen = (await exports.open("slow@one", client)).device;
  const read = await inOneSecond(memory, frozen, "read");
  assert.ok(read >= 195 && read <= 205, `${read} reads of its snapshot`);
  const { device: fast } = await exports.open("fast", client);
  const beside = await inOneSecond(memory, fast, "write");
  assert.ok(beside >= 1000, `${beside} writes of its neighbour`);
  await vdis.close();
});

test("limits are kept with the disk, through rollbacks and reopenings, until it is deleted", async () => {
  const { vdis, files } = await openMemoryVdis();
  const qos = { bytesPerSecond: 8192, burstMs: 100 };
  await vdis.create("a", mebibyte);
  await vdis.snapshot(["a"], "one");
  await limitDisk(vdis, "a", qos);
  await vdis.rollback(["a"], "one", false);
  assert.deepEqual(vdis.volume("a").limiter?.limits, qos);
  await vdis.store.checkpoint();
  const again = await openMemoryVdis({}, files.crashKeepingNothing());
  assert.deepEqual(again.vdis.registry.qos.get("a"), qos);
  assert.deepEqual(again.vdis.volume("a").limiter?.limits, qos);
  await again.vdis.delete("a");
  await again.vdis.create("a", mebibyte);
  assert.equal(again.vdis.volume("a").limiter?.limits, undefined);
  await assert.rejects(limitDisk(again.vdis, "b", qos), { code: "not-found" });
  await again.vdis.close();
});

test("a limit counts at once for who has the disk open; flush and rollback wait for none", async () => {
  const memory = await openMemoryVdis();
  const { vdis } = memory;
  await vdis.create("a", mebibyte);
  const volume = vdis.volume("a");
  await volume.write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  await limitDisk(vdis, "a", { opsPerSecond: 1, burstMs: 1 });
  await volume.write(filled(2), 0);
  const waiting = [2, 3, 4].map((byte) => Promise.resolve(volume.write(filled(byte), 0)));
  await volume.flush();
  await vdis.rollback(["a"], "one", true);
  assert.equal(volume.limiter?.waiting, 3);
  await limitDisk(vdis, "a", null);
  await Promise.all(waiting);
  await vdis.close();
});

test("what waits for its rate is answered when the store closes, or the disk is deleted", async () => {
  const { vdis } = await openMemoryVdis();
  const qos = { opsPerSecond: 1, burstMs: 1 };
  const waiting: Promise<unknown>[] = [];
  for (const name of ["kept", "gone"]) {
    await vdis.create(name, mebibyte, { qos });
    const volume = vdis.volume(name);
    await volume.write(filled(1), 0);
    for (let n = 0; n < 3; n++) waiting.push(Promise.resolve(volume.write(filled(2), 0)));
  }
  const settled = Promise.allSettled(waiting);
  await vdis.delete("gone");
  await vdis.close();
  for (const outcome of await settled) {
    if (outcome.status === "rejected") assert.equal(outcome.reason.code, "closed");
  }
});
