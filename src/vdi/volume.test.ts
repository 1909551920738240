import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import { blockDeviceSuite } from "../../test/conformance/block-device-suite.ts";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";
import type { Volume } from "./volume.ts";

const mebibyte = 2 ** 20;

async function makeVolume(sizeBytes: number) {
  const { vdis } = await openMemoryVdis();
  await vdis.create("disk", sizeBytes);
  return { device: vdis.volume("disk"), close: () => vdis.close() };
}

blockDeviceSuite("volume", makeVolume, { historiesMax: 12 });

test("writes of parts of one block at the same time lose nothing of each other", async () => {
  const { device, close } = await makeVolume(mebibyte);
  for (let round = 1; round <= 20; round++) {
    const jobs = Array.from({ length: 16 }, (_, sector) =>
      Promise.resolve(device.write(filled(round + sector, 512), 2048 + sector * 512)),
    );
    await Promise.all(jobs);
    for (let sector = 0; sector < 16; sector++) {
      assert.equal(await byteAt(device, 2048 + sector * 512), round + sector);
    }
  }
  await close();
});

test("a part of a block that is written beside whole blocks never undoes them", async () => {
  const { device, close } = await makeVolume(mebibyte);
  const random = new SeededRandom(5);
  for (let round = 1; round < 100; round++) {
    const whole = Promise.resolve(device.write(filled(round), 0));
    if (random.below(2) === 0) await new Promise(setImmediate);
    await Promise.all([whole, device.write(filled(200, 512), 1024)]);
    const around = await byteAt(device, 0, 1024);
    assert.equal(around, round, "the whole block was written before, or after");
    assert.equal(await byteAt(device, 1536, 2560), round);
  }
  await close();
});

test("a part of a block that is written during a zeroing never brings back what was there", async () => {
  const first = await openMemoryVdis();
  await first.vdis.create("disk", 16 * 2 ** 30);
  const before = first.vdis.volume("disk");
  const far = 9 * 2 ** 30;
  for (const at of [0, 8192, far]) await before.write(filled(7), at);
  await first.vdis.close();
  // Reopened: neither the map is resident, nor is there a log to append to.
  const { vdis } = await openMemoryVdis({}, first.files.crashKeepingNothing());
  const device = vdis.volume("disk");
  const zeroed = device.zero(0, 16 * 2 ** 30);
  const parts = [0, 8192, far].map((at) => device.write(filled(9, 512), at + 512));
  await Promise.all([zeroed, ...parts]);
  for (const at of [0, 8192, far]) {
    assert.equal(await byteAt(device, at, 512), 0, `at ${at}`);
    assert.equal(await byteAt(device, at + 1024, 3072), 0, `at ${at}`);
  }
  await vdis.close();
});

test("requests in flight during a live rollback land wholly before it or wholly after", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("disk", mebibyte);
  const device = vdis.volume("disk");
  await vdis.snapshot(["disk"], "empty");
  const random = new SeededRandom(11);
  for (let round = 1; round <= 15; round++) {
    const writes: Promise<void>[] = [];
    let rolledBack: Promise<void> | undefined;
    let isBack = false;
    const after: number[] = [];
    for (let step = 0; step < 40; step++) {
      const block = step;
      if (step === 20) {
        rolledBack = vdis.rollback(["disk"], "empty", true).then(() => {
          isBack = true;
        });
      }
      const asked = isBack;
      if (asked) after.push(block);
      writes.push(Promise.resolve(device.write([Buffer.alloc(4096 - 512, 3)], block * 4096)));
      if (random.below(3) === 0) await new Promise(setImmediate);
    }
    await Promise.all([...writes, rolledBack]);
    const found: number[] = [];
    for (let block = 0; block < 40; block++) {
      const byte = await byteAt(device, block * 4096, 4096 - 512);
      assert.ok(byte === 0 || byte === 3);
      if (byte === 3) found.push(block);
    }
    // What came before the barrier is gone, all of it; what came after it is there, all of it.
    const firstFound = found[0] ?? 40;
    assert.deepEqual(
      found,
      Array.from({ length: 40 - firstFound }, (_, at) => firstFound + at),
    );
    assert.ok(
      firstFound >= 19,
      `block ${firstFound} was written before the rollback was asked for`,
    );
    assert.ok(after.every((block) => found.includes(block)));
  }
  await vdis.close();
});

test("what a failed request still does is over before a live rollback", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("disk", mebibyte);
  const device = vdis.volume("disk");
  await device.write(filled(1), 0);
  await vdis.snapshot(["disk"], "one");
  await device.write(filled(2), 0);
  await device.flush();
  // A zeroing of the end of the first block and all of the second: the second fails, the first is slow.
  let goOn: (() => void) | undefined;
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  let isHeld = false;
  files.before = ({ operation, path }) => {
    if (!path.includes("/logs/") || !/read/i.test(operation)) return undefined;
    isHeld = true;
    return gate;
  };
  files.fail({ operation: "write", code: "no-space", on: (path) => path.includes("/logs/") });
  let isAnswered = false;
  const zeroed = assert
    .rejects(async () => device.zero(512, 8192 - 512), { code: "no-space" })
    .finally(() => {
      isAnswered = true;
    });
  for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
  assert.ok(isHeld && !isAnswered, "its answer waits for all of it");
  const rolledBack = vdis.rollback(["disk"], "one", true);
  for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
  goOn?.();
  files.before = undefined;
  await Promise.all([zeroed, rolledBack]);
  for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
  assert.equal(await byteAt(device, 0, 4096), 1, "the block is the snapshot's");
  await vdis.close();
});

test("a group snapshot shows all its disks at one moment", async () => {
  const { vdis } = await openMemoryVdis();
  const names = ["a", "b", "c"];
  for (const name of names) await vdis.create(name, mebibyte);
  let stop = false;
  let number = 0;
  const writer = (async () => {
    while (!stop) {
      number = (number % 200) + 1;
      // One after the other: at any moment the numbers never rise from a to c.
      for (const name of names) await vdis.volume(name).write(filled(number), 0);
      if (number === 200) for (const name of names) await vdis.volume(name).write(filled(0), 0);
    }
  })();
  for (let taken = 0; taken < 12; taken++) {
    await new Promise(setImmediate);
    const records = vdis.store.catalog.last;
    await vdis.snapshot(names, `s${taken}`);
    assert.ok(vdis.store.catalog.last - records <= 1, "one record");
    const seen: number[] = [];
    for (const name of names) {
      const point = vdis.point(name, `s${taken}`);
      const target = Buffer.alloc(4096);
      await vdis.store.read(point, { target, first: 0 });
      seen.push(target[0] as number);
    }
    const [a, b, c] = seen as [number, number, number];
    const isMoment = (x: number, y: number) => x === y || x === y + 1 || (x === 0 && y === 200);
    assert.ok(isMoment(a, b) && isMoment(b, c) && isMoment(a, c), seen.join(" "));
  }
  stop = true;
  await writer;
  await vdis.close();
});

test("a disk that is closed and deleted answers so, and its requests do not hang", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("disk", mebibyte);
  const device = vdis.volume("disk");
  const last = Promise.resolve(device.write(filled(1), 0));
  await Promise.all([last, vdis.close()]);
  assert.throws(() => void device.flush(), { code: "closed" });
});

test("a store that is closed while a disk is rolled back live lets both finish", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("disk", mebibyte);
  const device = vdis.volume("disk");
  await vdis.snapshot(["disk"], "one");
  const writes = Array.from({ length: 8 }, () =>
    Promise.resolve(device.write(filled(1, 512), 512)),
  );
  const back = vdis.rollback(["disk"], "one", true);
  await Promise.allSettled([...writes, back, vdis.close()]);
});

test("FUA of every kind of request is safe from power loss when it is answered", async () => {
  const fua = { fua: true };
  const requests: Record<string, (device: Volume) => unknown> = {
    "a write": (device) => device.write(filled(9), 0, fua),
    "a write of a part": (device) => device.write(filled(9, 512), 0, fua),
    "a write over two blocks": (device) => device.write(filled(9, 5000), 0, fua),
    "a zeroing": (device) => device.zero(0, 8192, fua),
    "a zeroing that stays allocated": (device) =>
      device.zero(0, 4096, { fua: true, keepAllocated: true }),
    "a trim": (device) => device.trim(0, 4096, fua),
  };
  for (const [what, request] of Object.entries(requests)) {
    const { vdis, files } = await openMemoryVdis();
    await vdis.create("disk", mebibyte);
    const device = vdis.volume("disk");
    await device.write(filled(7, 8192), 0);
    await device.flush();
    await request(device);
    const expected = await byteAt(device, 0);
    assert.notEqual(expected, 7, what);
    const left = await openMemoryVdis({}, files.crashKeepingNothing());
    assert.equal(await byteAt(left.vdis.volume("disk"), 0), expected, what);
    await left.vdis.close();
  }
});

test("a request that fails keeps nobody from its blocks", async () => {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("disk", mebibyte);
  const device = vdis.volume("disk");
  await device.write(filled(7), 0);
  const requests = [
    () => device.write(filled(9, 512), 0),
    () => device.zero(0, 4096),
    () => device.trim(0, 4096),
  ];
  for (const [at, request] of requests.entries()) {
    files.fail({ operation: "write", code: "no-space", on: (path) => path.includes("/logs/") });
    await assert.rejects(async () => request(), { code: "no-space" });
    assert.equal(await byteAt(device, 2048), 7, "it was not done");
    let isDone = false;
    void Promise.resolve(device.write(filled(at, 512), 512)).then(() => {
      isDone = true;
    });
    for (let turn = 0; turn < 100 && !isDone; turn++) await new Promise(setImmediate);
    assert.ok(isDone, "the next one does not wait");
    assert.equal(await byteAt(device, 512), at);
  }
  await vdis.close();
});
