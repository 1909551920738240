import assert from "node:assert/strict";
import { test } from "node:test";
import { blockDeviceSuite } from "../../test/conformance/block-device-suite.ts";
import { guardDevice } from "./guard.ts";
import { type DeviceRequest, interceptDevice } from "./intercept.ts";
import { MemoryDevice } from "./memory-device.ts";
import { readOnlyDevice } from "./read-only.ts";

blockDeviceSuite("guarded device", async (sizeBytes) => ({
  device: guardDevice(new MemoryDevice(sizeBytes)),
}));

function watched(sizeBytes: number, readOnly = false) {
  const seen: DeviceRequest[] = [];
  const memory = new MemoryDevice(sizeBytes);
  const device = interceptDevice(readOnly ? readOnlyDevice(memory) : memory, (request, run) => {
    seen.push(request);
    return run();
  });
  return { device: guardDevice(device), seen };
}

const senseless = [
  [-1, 1],
  [0.5, 1],
  [Number.NaN, 1],
  [2 ** 64, 1],
] as const;

test("nothing outside of the disk reaches the device", async () => {
  const { device, seen } = watched(4096);
  const bytes = new Uint8Array(2);
  assert.throws(() => device.read(bytes, 4095), { code: "invalid" });
  assert.throws(() => device.write([bytes], 4095), { code: "no-space" });
  assert.throws(() => device.write([bytes.subarray(1), bytes], 4094), { code: "no-space" });
  assert.throws(() => device.zero(4000, 97), { code: "no-space" });
  assert.throws(() => device.trim(4000, 97), { code: "invalid" });
  assert.throws(() => device.cache(0, 4097), { code: "invalid" });
  await assert.rejects(
    device.extents({ kind: "allocation", offset: 4096, length: 1, extentsMax: 1 }),
    { code: "invalid" },
  );
  for (const [offset, length] of senseless) {
    assert.throws(() => device.read(new Uint8Array(length), offset));
    assert.throws(() => device.write([new Uint8Array(length)], offset));
    assert.throws(() => device.zero(offset, length));
    assert.throws(() => device.trim(0, offset));
  }
  assert.deepEqual(seen, []);
});

test("the last byte is inside", async () => {
  const { device, seen } = watched(4096);
  await device.read(new Uint8Array(1), 4095);
  await device.write([new Uint8Array(4096)], 0);
  assert.equal(seen.length, 2);
});

test("a read-only disk refuses every change and answers every question", async () => {
  const { device, seen } = watched(4096, true);
  for (const change of [
    () => device.write([new Uint8Array(1)], 0),
    () => device.zero(0, 1),
    () => device.trim(0, 1),
    () => device.write([new Uint8Array(1)], 4096),
  ]) {
    assert.throws(change, { code: "read-only" });
  }
  assert.deepEqual(seen, []);
  await device.read(new Uint8Array(1), 0);
  await device.cache(0, 1);
  await device.flush();
  await device.extents({ kind: "allocation", offset: 0, length: 1, extentsMax: 1 });
  assert.equal(seen.length, 4);
});

test("empty requests do nothing, at the end of the disk too", async () => {
  const { device, seen } = watched(4096);
  await device.read(new Uint8Array(0), 4096);
  await device.write([], 4096);
  await device.zero(4096, 0);
  await device.trim(0, 0);
  assert.throws(() => device.read(new Uint8Array(0), 4097));
  assert.deepEqual(seen, []);
});

test("an extent query for nothing is invalid", async () => {
  const { device } = watched(4096);
  const query = { kind: "allocation", offset: 0 } as const;
  await assert.rejects(device.extents({ ...query, length: 0, extentsMax: 1 }), { code: "invalid" });
  await assert.rejects(device.extents({ ...query, length: 1, extentsMax: 0 }), { code: "invalid" });
});
