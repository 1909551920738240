import assert from "node:assert/strict";
import { test } from "node:test";
import { blockDeviceSuite } from "../../test/conformance/block-device-suite.ts";
import { ManualTimers } from "../../test/support/manual-timers.ts";
import { delayDevice } from "./delay.ts";
import { FaultDevice } from "./fault.ts";
import { MemoryDevice } from "./memory-device.ts";
import { readOnlyDevice } from "./read-only.ts";
import { StaticExports } from "./static-exports.ts";
import { traceDevice } from "./trace.ts";

blockDeviceSuite("traced device", async (sizeBytes) => ({
  device: traceDevice(new MemoryDevice(sizeBytes), { begin() {}, end() {} }),
}));

blockDeviceSuite(
  "slow device",
  async (sizeBytes) => {
    const timers = new ManualTimers();
    const device = new MemoryDevice(sizeBytes);
    const ticking = setInterval(() => timers.advance(1), 0);
    return {
      device: delayDevice({ delayMs: ({ offset }) => offset % 3 }, { device, timers }),
      close: async () => clearInterval(ticking),
    };
  },
  { historiesMax: 2 },
);

test("a delayed request reaches the device when its time has come", async () => {
  const timers = new ManualTimers();
  const memory = new MemoryDevice(4096);
  const device = delayDevice({ delayMs: 10 }, { device: memory, timers });
  const write = device.write([new Uint8Array([5])], 0);
  const byte = new Uint8Array(1);
  timers.advance(9);
  await Promise.resolve();
  memory.read(byte, 0);
  assert.equal(byte[0], 0);
  timers.advance(1);
  await write;
  memory.read(byte, 0);
  assert.equal(byte[0], 5);
});

test("the n-th matching request fails, and no other", async () => {
  const faulty = new FaultDevice(new MemoryDevice(8192));
  faulty.inject({ operation: "write", nth: 2, times: 2, code: "no-space" });
  const write = () => faulty.device.write([new Uint8Array(1)], 0);
  await write();
  assert.throws(write, { code: "no-space" });
  await faulty.device.read(new Uint8Array(1), 0);
  assert.throws(write, { code: "no-space" });
  await write();
});

test("a fault in a range hits requests that touch it until it is healed", async () => {
  const faulty = new FaultDevice(new MemoryDevice(8192));
  faulty.inject({ range: { start: 4096, end: 4608 }, times: Number.POSITIVE_INFINITY });
  await faulty.device.read(new Uint8Array(4096), 0);
  assert.throws(() => faulty.device.read(new Uint8Array(4097), 0), { code: "io" });
  assert.throws(() => faulty.device.zero(4607, 100), { code: "io" });
  await faulty.device.zero(4608, 100);
  faulty.heal();
  await faulty.device.read(new Uint8Array(8192), 0);
});

test("a trace has an end for every begin, with the error if there was one", async () => {
  const faulty = new FaultDevice(new MemoryDevice(4096));
  const lines: string[] = [];
  const timers = new ManualTimers();
  const slow = delayDevice({ delayMs: 1 }, { device: faulty.device, timers });
  const device = traceDevice(slow, {
    begin: ({ operation, offset, length }) => lines.push(`> ${operation} ${offset}+${length}`),
    end: ({ operation }, error) => lines.push(`< ${operation} ${error ?? "ok"}`),
  });
  faulty.inject({ operation: "flush" });
  const write = device.write([new Uint8Array(10), new Uint8Array(5)], 100);
  const flush = device.flush();
  timers.advance(1);
  await write;
  await assert.rejects(async () => flush, { code: "io" });
  assert.deepEqual(lines, [
    "> write 100+15",
    "> flush 0+0",
    "< write ok",
    "< flush KelpieError: injected fault: flush at 0",
  ]);
});

test("a read-only view follows the disk behind it", async () => {
  const memory = new MemoryDevice(4096);
  const view = readOnlyDevice(memory);
  memory.write([new Uint8Array([3])], 7);
  const byte = new Uint8Array(1);
  await view.read(byte, 7);
  assert.equal(byte[0], 3);
  assert.equal(view.sizeBytes, 4096);
  assert.equal(view.readOnly, true);
});

test("static exports list, open by name, and know who is there", async () => {
  const device = new MemoryDevice(512);
  const exports = new StaticExports(new Map([["a", { device, description: "first" }]]));
  assert.deepEqual(await exports.list(), [{ name: "a", description: "first" }]);
  const client = { protocol: "nbd", peer: "unix" } as const;
  await assert.rejects(exports.open("b", client), { code: "not-found" });
  const open = await exports.open("a", client);
  assert.equal(open.device, device);
  assert.deepEqual(exports.clients("a"), [client]);
  await open.close();
  assert.deepEqual(exports.clients("a"), []);
  await assert.rejects(open.close(), { code: "closed" });
});
