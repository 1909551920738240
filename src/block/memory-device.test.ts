import assert from "node:assert/strict";
import { test } from "node:test";
import { blockDeviceSuite } from "../../test/conformance/block-device-suite.ts";
import { isPending } from "../base/completion.ts";
import { MemoryDevice, memoryChunkBytes } from "./memory-device.ts";

blockDeviceSuite("memory device", async (sizeBytes) => ({ device: new MemoryDevice(sizeBytes) }));

test("takes memory for what is written, and gives it back when it is trimmed", () => {
  const device = new MemoryDevice(2 ** 40);
  assert.equal(device.allocatedBytes, 0);
  device.write([new Uint8Array(1)], 2 ** 39);
  device.write([new Uint8Array(2)], memoryChunkBytes - 1);
  assert.equal(device.allocatedBytes, 3 * memoryChunkBytes);
  device.trim(0, 2 ** 40);
  assert.equal(device.allocatedBytes, 0);
});

test("a zeroed range that stays allocated is reported as such, and takes no memory", async () => {
  const device = new MemoryDevice(2 ** 30);
  device.zero(0, 2 ** 29, { keepAllocated: true });
  assert.equal(device.allocatedBytes, 0);
  const query = { kind: "allocation", offset: 0, length: 2 ** 30, extentsMax: 10 } as const;
  assert.deepEqual(await device.extents(query), [
    { lengthBytes: 2 ** 29, value: 2 },
    { lengthBytes: 2 ** 29, value: 1 },
  ]);
  device.write([new Uint8Array([7])], 100);
  const other = new Uint8Array(1);
  device.read(other, memoryChunkBytes + 100);
  assert.equal(other[0], 0);
});

test("completes at once", () => {
  const device = new MemoryDevice(4096);
  assert.ok(!isPending(device.write([new Uint8Array(4096)], 0)));
  assert.ok(!isPending(device.read(new Uint8Array(4096), 0)));
});

test("refuses sizes that cannot be", () => {
  for (const size of [0, -512, 100, 2 ** 50, Number.NaN]) {
    assert.throws(() => new MemoryDevice(size), { code: "invalid" });
  }
});
