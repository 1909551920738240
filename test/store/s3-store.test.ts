import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ObjectEvent } from "../../sim/memory-object-store.ts";
import { SeededRandom } from "../../sim/random.ts";
import { isKelpieError } from "../../src/base/errors.ts";
import { bytesOf, closing, type Machine, passing, S3World, write } from "../support/s3-world.ts";

const sizeBytes = 2 ** 24;

async function withDisk(world = new S3World()): Promise<{ world: S3World; machine: Machine }> {
  const machine = await world.open();
  await call(machine, "vdi.create", { name: "disk", sizeBytes });
  return { world, machine };
}

function call(machine: Machine, name: never | string, input: object): Promise<unknown> {
  const { control } = machine.store;
  const running = control.call(name as "vdi.create", input as { name: string; sizeBytes: number });
  return passing(machine.host, running);
}

async function flush(machine: Machine, name = "disk"): Promise<void> {
  const { host, store } = machine;
  await passing(host, Promise.resolve(store.vdis.volume(name).flush()));
}

async function fails(code: string, action: Promise<unknown>): Promise<Error> {
  let failure: unknown;
  await action.catch((error: unknown) => {
    failure = error;
  });
  assert.ok(isKelpieError(failure) && failure.code === code, `${failure}`);
  return failure;
}

describe("a store in an object store", () => {
  it("has after a clean stop everything in the bucket, for a machine that has nothing", async () => {
    const { world, machine } = await withDisk();
    const volume = machine.store.vdis.volume("disk");
    for (let block = 0; block < 40; block++) await write(volume, block, block + 1);
    await call(machine, "vdi.snapshot", { names: ["disk"], tag: "one" });
    for (let block = 0; block < 10; block++) await write(volume, block, 100);
    await closing(machine);
    assert.deepEqual(world.keys("tails/"), []);
    const other = await world.open();
    assert.equal(other.store.vdis.store.replayedEntries, 0);
    const before = Array.from({ length: 40 }, (_, block) => block + 1);
    assert.deepEqual(await bytesOf(other, "disk@one", 40), before);
    assert.deepEqual(await bytesOf(other, "disk", 40), [
      ...Array(10).fill(100),
      ...before.slice(10),
    ]);
    await closing(other);
  });

  it("has what was flushed, though the machine and its disk are gone", async () => {
    const { world, machine } = await withDisk();
    const volume = machine.store.vdis.volume("disk");
    for (let block = 0; block < 100; block++) await write(volume, block, block + 1);
    await flush(machine);
    for (let block = 0; block < 100; block += 2) await write(volume, block, 200);
    await call(machine, "vdi.snapshot", { names: ["disk"], tag: "two" });
    await call(machine, "vdi.clone", { source: "disk", snapshot: "two", name: "copy" });
    await write(machine.store.vdis.volume("copy"), 0, 77);
    await flush(machine, "copy");
    await call(machine, "vdi.rollback", { names: ["disk"], snapshot: "two", live: true });
    await write(volume, 3, 33);
    await flush(machine);
    const two = Array.from({ length: 100 }, (_, block) => (block % 2 === 0 ? 200 : block + 1));
    const other = await world.open({ takeOver: true });
    assert.deepEqual(await bytesOf(other, "disk@two", 100), two);
    assert.deepEqual(await bytesOf(other, "copy", 100), [77, ...two.slice(1)]);
    assert.deepEqual(await bytesOf(other, "disk", 100), two.with(3, 33));
    await closing(other);
  });

  it("has every write that was answered when only the process dies", async () => {
    const { world, machine } = await withDisk();
    const volume = machine.store.vdis.volume("disk");
    for (let block = 0; block < 100; block++) await write(volume, block, block + 1);
    const left = machine.files.crashKeepingEverything();
    const again = await world.open({}, left);
    const all = Array.from({ length: 100 }, (_, block) => block + 1);
    assert.deepEqual(await bytesOf(again, "disk", 100), all);
    // What was only here is sent before what comes now.
    await write(again.store.vdis.volume("disk"), 0, 250);
    await flush(again);
    const other = await world.open({ takeOver: true });
    assert.deepEqual(await bytesOf(other, "disk", 100), all.with(0, 250));
    await closing(other);
  });

  it("leaves a prefix of what was written when the machine is lost", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = new SeededRandom(seed);
      const { world, machine } = await withDisk();
      const volume = machine.store.vdis.volume("disk");
      let flushed = 0;
      for (let round = 1; round <= 60; round++) {
        await write(volume, round % 7, round);
        await write(volume, 10 + (round % 5), round);
        if (random.below(10) === 0) {
          await flush(machine);
          flushed = round;
        }
        if (random.below(5) === 0) await machine.host.time.advance(random.below(2_000));
      }
      const other = await world.open({ takeOver: true });
      const found = await bytesOf(other, "disk", 15);
      const last = Math.max(...found);
      const expected = Array.from({ length: 15 }, (_, block) => newest(block, last));
      const half = found.with(10 + (last % 5), newest(10 + (last % 5), last - 1));
      const isPrefix = [expected.join(), half.join()].includes(found.join());
      assert.ok(isPrefix && last >= flushed, `seed ${seed}: ${found}, ${flushed} was flushed`);
      await closing(other);
    }
  });

  it("goes on when answers are lost, requests are, and puts that were done are answered 409", async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const random = new SeededRandom(seed);
      const world = new S3World();
      const faults = ["lost-request", "lost-answer", "conflict", "repeated"] as const;
      world.bucket.decide = ({ operation }) => {
        if (random.below(4) !== 0) return undefined;
        return faults[random.below(operation === "put" ? 4 : 2)];
      };
      const { machine } = await withDisk(world);
      const volume = machine.store.vdis.volume("disk");
      for (let block = 0; block < 60; block++) {
        await write(volume, block, block + 1);
        if (block % 10 === 0) await flush(machine);
        if (block % 20 === 0) await call(machine, "vdi.snapshot", { names: ["disk"] });
      }
      await closing(machine);
      world.bucket.decide = () => undefined;
      const other = await world.open();
      const all = Array.from({ length: 60 }, (_, block) => block + 1);
      assert.deepEqual(await bytesOf(other, "disk", 60), all, `seed ${seed}`);
      assert.equal(other.store.vdis.registry.snapshotsOf("disk").length, 3);
      await closing(other);
    }
  });

  it("waits for an object store that is gone for a while, and fails nothing", async () => {
    const { world, machine } = await withDisk();
    const volume = machine.store.vdis.volume("disk");
    // The first write begins a log, with a record.
    await write(volume, 0, 7);
    world.bucket.decide = () => "lost-request";
    await write(volume, 0, 1);
    let isFlushed = false;
    const flushing = Promise.resolve(volume.flush()).then(() => {
      isFlushed = true;
    });
    for (let second = 0; second < 120; second++) {
      await machine.host.time.advance(1_000);
      await machine.host.time.sleep(0);
    }
    assert.equal(isFlushed, false);
    await write(volume, 1, 2);
    world.bucket.decide = () => undefined;
    await passing(machine.host, flushing);
    await closing(machine);
  });

  it("shares one request among all who flush meanwhile", async () => {
    const { world, machine } = await withDisk();
    const volume = machine.store.vdis.volume("disk");
    await write(volume, 0, 1);
    await flush(machine);
    const before = world.bucket.counts.get("put") ?? 0;
    const writers = Array.from({ length: 64 }, async (_, block) => {
      await write(volume, block, 5);
      await volume.flush();
    });
    await passing(machine.host, Promise.all(writers));
    const puts = (world.bucket.counts.get("put") ?? 0) - before;
    assert.ok(puts <= 4, `${puts} puts for 64 writers`);
    await closing(machine);
  });

  it("is refused to a second machine until the first has closed it", async () => {
    const { world, machine } = await withDisk();
    const error = await fails("busy", world.open());
    assert.match(error.message, /in use by machine 1/);
    await closing(machine);
    await closing(await world.open());
  });

  it("puts aside what a machine had not sent when another one took over", async () => {
    const { world, machine } = await withDisk();
    await write(machine.store.vdis.volume("disk"), 0, 1);
    await flush(machine);
    await write(machine.store.vdis.volume("disk"), 0, 2);
    const left = machine.files.crashKeepingEverything();
    const other = await world.open({ takeOver: true });
    assert.deepEqual(await bytesOf(other, "disk", 1), [1]);
    await write(other.store.vdis.volume("disk"), 0, 3);
    await closing(other);
    const back = await world.open({}, left);
    assert.deepEqual(await bytesOf(back, "disk", 1), [3]);
    assert.equal((await back.files.list("/local/set-aside")).length, 1);
    await closing(back);
  });

  it("answers local flushes and snapshots at once, and says which are not there yet", async () => {
    const { world, machine } = await withDisk();
    await call(machine, "vdi.setFlush", { name: "disk", flush: "local" });
    const volume = machine.store.vdis.volume("disk");
    await write(volume, 0, 1);
    world.bucket.decide = withoutData;
    await write(volume, 1, 2);
    await volume.flush();
    await call(machine, "vdi.snapshot", { names: ["disk"], tag: "s" });
    assert.deepEqual(await pendingOf(machine), ["s"]);
    let isCloned = false;
    const input = { source: "disk", snapshot: "s", name: "copy" };
    const cloning = machine.store.control.call("vdi.clone", input).then(() => {
      isCloned = true;
    });
    for (let second = 0; second < 20; second++) await machine.host.time.advance(1_000);
    assert.equal(isCloned, false, "a clone stands on what is not there");
    world.bucket.decide = () => undefined;
    await passing(machine.host, cloning);
    assert.deepEqual(await pendingOf(machine), []);
    await write(volume, 2, 3);
    await call(machine, "vdi.snapshot", { names: ["disk"], tag: "t", wait: true });
    assert.deepEqual(await pendingOf(machine), []);
    const other = await world.open({ takeOver: true });
    assert.deepEqual(await bytesOf(other, "disk@t", 3), [1, 2, 3]);
    await closing(other);
  });

  it("says which snapshots are lost with a machine, and deletes them when that is accepted", async () => {
    const { world, machine } = await withDisk();
    await call(machine, "vdi.setFlush", { name: "disk", flush: "local" });
    const volume = machine.store.vdis.volume("disk");
    await write(volume, 0, 1);
    await call(machine, "vdi.snapshot", { names: ["disk"], tag: "whole", wait: true });
    world.bucket.decide = withoutData;
    await write(volume, 0, 2);
    await call(machine, "vdi.snapshot", { names: ["disk"], tag: "part" });
    await write(volume, 0, 3);
    world.bucket.decide = () => undefined;
    const error = await fails("corrupt", world.open({ takeOver: true }));
    assert.match(error.message, /not all of disk@part had been sent/);
    const other = await world.open({ takeOver: true, acceptLoss: true });
    const { registry } = other.store.vdis;
    assert.deepEqual(
      registry.snapshotsOf("disk").map(({ tag }) => tag),
      ["whole"],
    );
    assert.deepEqual(await bytesOf(other, "disk@whole", 1), [1]);
    assert.deepEqual(await bytesOf(other, "disk", 1), [1]);
    await closing(other);
  });

  it("keeps a snapshot that was not sent when only the process dies", async () => {
    const { world, machine } = await withDisk();
    await call(machine, "vdi.setFlush", { name: "disk", flush: "local" });
    const volume = machine.store.vdis.volume("disk");
    await write(volume, 0, 1);
    world.bucket.decide = withoutData;
    await write(volume, 0, 2);
    await call(machine, "vdi.snapshot", { names: ["disk"], tag: "s" });
    const left = machine.files.crashKeepingEverything();
    const again = await world.open({}, left);
    assert.deepEqual(await bytesOf(again, "disk@s", 1), [2]);
    assert.deepEqual(await pendingOf(again), ["s"]);
    world.bucket.decide = () => undefined;
    await closing(again);
    const other = await world.open();
    assert.deepEqual(await bytesOf(other, "disk@s", 1), [2]);
    await closing(other);
  });

  it("gives back in the bucket what is overwritten and deleted", async () => {
    const { world, machine } = await withDisk();
    const volume = machine.store.vdis.volume("disk");
    for (let round = 1; round <= 4; round++) await write(volume, 0, round, 256);
    await flush(machine);
    const bytes = () => {
      return world.keys("logs/").reduce((sum, key) => {
        return sum + (world.bucket.objects.get(key)?.bytes.length ?? 0);
      }, 0);
    };
    const before = bytes();
    await passing(machine.host, machine.store.vdis.store.clean());
    assert.ok(bytes() < before / 2, `${bytes()} of ${before} bytes are left`);
    assert.deepEqual(await bytesOf(machine, "disk", 256), Array(256).fill(4));
    await closing(machine);
    const other = await world.open();
    assert.deepEqual(await bytesOf(other, "disk", 256), Array(256).fill(4));
    await closing(other);
  });

  it("reads through a cache that is smaller than the disk", async () => {
    const { world, machine } = await withDisk();
    await write(machine.store.vdis.volume("disk"), 0, 9, 1024);
    await closing(machine);
    const other = await world.open({ cacheBytes: 2 ** 20 });
    assert.deepEqual(await bytesOf(other, "disk", 1024), Array(1024).fill(9));
    assert.deepEqual(await bytesOf(other, "disk", 1024), Array(1024).fill(9));
    const { cacheBytes } = (await call(other, "store.info", {})) as { cacheBytes?: number };
    assert.ok((cacheBytes ?? 0) <= 2 ** 20);
    await closing(other);
  });
});

/** Records come to the object store, and what disks hold does not. */
function withoutData({ operation, key }: ObjectEvent): "lost-request" | undefined {
  const isData = key.startsWith("tails/") || key.startsWith("logs/");
  return operation === "put" && isData ? "lost-request" : undefined;
}

async function pendingOf(machine: Machine): Promise<string[]> {
  const entries = (await call(machine, "vdi.list", {})) as { tag: string; pending?: true }[];
  return entries.filter(({ pending }) => pending === true).map(({ tag }) => tag);
}

/** What a block holds after round `last`. */
function newest(block: number, last: number): number {
  for (let round = last; round >= 1; round--) {
    if (round % 7 === block || 10 + (round % 5) === block) return round;
  }
  return 0;
}
