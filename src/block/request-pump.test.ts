import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualTimers } from "../../test/support/manual-timers.ts";
import { MemoryConnection } from "../../test/support/memory-net.ts";
import { ByteQueue } from "../base/byte-queue.ts";
import { meterKind } from "./request-meter.ts";
import { type PendingRequest, type PumpSettings, RequestPump } from "./request-pump.ts";

interface Waiting extends PendingRequest {
  number: number;
  letGo: () => void;
}

/** A protocol in which each byte is a request that waits and costs so much; its reply is its number. */
function pumped(limits: Partial<PumpSettings>, costBytes: number) {
  const everything = { chunkBytesMax: Number.POSITIVE_INFINITY, queuedBytesMax: 2 ** 20 };
  const [client, connection] = MemoryConnection.pair(everything);
  const settings = { requestsInFlightMax: 1000, bytesInFlightMax: 1000, closeMs: 1000, ...limits };
  const queue = new ByteQueue((chunk, count) => connection.release(chunk, count));
  const waiting: Waiting[] = [];
  let ready: number[] = [];
  let requests = 0;
  const replies = {
    get byteLength() {
      return ready.length;
    },
    takeAll() {
      const taken = Uint8Array.from(ready);
      ready = [];
      return [taken];
    },
    reuse() {},
  };
  const protocol = {
    step() {
      if (queue.byteLength === 0) return false;
      queue.skip(1);
      const { promise, resolve } = Promise.withResolvers<void>();
      const unmeasured = { meter: undefined, kind: meterKind.other, bytes: 0, beganMs: 0 };
      const request = { ...unmeasured, reply: undefined, payload: undefined, costBytes };
      const begun = { ...request, number: requests++, letGo: resolve };
      waiting.push(begun);
      pump.track(promise, begun);
      return true;
    },
    succeed: ({ number }: Waiting) => void ready.push(number),
    fail: () => assert.fail("nothing fails here"),
    done() {},
  };
  const components = { connection, queue, replies, timers: new ManualTimers() };
  const pump = new RequestPump<Waiting>(protocol, settings, components);
  connection.start({
    data(chunk) {
      queue.push(chunk);
      pump.pump();
    },
    drain: () => pump.drained(),
    close: () => pump.closed(),
  });
  const answers: number[] = [];
  client.start({ data: (chunk) => void answers.push(...chunk), drain() {}, close() {} });
  return { client, pump, waiting, answers };
}

const settled = () => new Promise(setImmediate);

for (const { what, limits, costBytes, expected } of [
  { what: "number", limits: { requestsInFlightMax: 3 }, costBytes: 0, expected: 3 },
  { what: "bytes", limits: { bytesInFlightMax: 5 }, costBytes: 2, expected: 3 },
]) {
  test(`requests in flight are bounded in ${what}, and go on as others are answered`, async () => {
    const { client, pump, waiting, answers } = pumped(limits, costBytes);
    client.write([new Uint8Array(10)]);
    for (let answered = 0; answered < 10; answered++) {
      await settled();
      assert.equal(pump.inFlight, Math.min(expected, 10 - answered));
      assert.equal(pump.isPaused, 10 - answered >= expected);
      waiting[answered]?.letGo();
    }
    await settled();
    assert.deepEqual(answers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    client.destroy();
  });
}
