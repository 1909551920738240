import assert from "node:assert/strict";
import { test } from "node:test";
import { RawClient, serve } from "../../test/support/raw-nbd.ts";
import { MemoryDevice } from "../block/memory-device.ts";
import { command } from "./wire-transmission.ts";

const { write } = command;
const sizeBytes = 2 ** 20;

test("a write's payload reaches the device in the slices it came in", async () => {
  const device = new MemoryDevice(sizeBytes);
  const seen: (readonly Uint8Array[])[] = [];
  device.write = (chunks) => void seen.push(chunks);
  const { stop, net } = await serve({ disk: device });
  const client = await (await RawClient.connect(net)).go("disk");
  const payload = new Uint8Array(3000);
  const request = client.request({ command: write, length: 3000 });
  client.connection.write([
    request.subarray(0, 28),
    payload.subarray(0, 1000),
    payload.subarray(1000),
  ]);
  await client.reply();
  assert.deepEqual(
    seen.map((chunks) => chunks.map(({ length }) => length)),
    [[1000, 2000]],
  );
  await stop();
});

test("a write's payload is given back when the device is done with it, and not before", async () => {
  const device = new MemoryDevice(sizeBytes);
  const done = Promise.withResolvers<void>();
  let payload: readonly Uint8Array[] = [];
  device.write = (chunks) => {
    payload = chunks;
    return done.promise;
  };
  const { stop, net } = await serve({ disk: device });
  const client = await (await RawClient.connect(net)).go("disk");
  client.connection.write([client.request({ command: write, length: 1000 })]);
  client.connection.write([new Uint8Array(1000).fill(7)]);
  while (payload.length === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(payload.every((chunk) => chunk.every((byte) => byte === 7)));
  done.resolve();
  await client.reply();
  // The network of the tests scribbles over memory that it got back.
  assert.ok(payload.every((chunk) => chunk.every((byte) => byte !== 7)));
  await stop();
});
