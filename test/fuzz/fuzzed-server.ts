import assert from "node:assert/strict";
import type { SeededRandom } from "../../sim/random.ts";
import type { BlockDevice } from "../../src/block/block-device.ts";
import { interceptDevice } from "../../src/block/intercept.ts";
import type { MemoryDevice } from "../../src/block/memory-device.ts";
import type { Log } from "../../src/host/log.ts";
import { closeMs, handshakeMs, payloadBytesMax } from "../../src/nbd/limits.ts";
import { address, type Served, serve, settle } from "../support/raw-nbd.ts";
import { FuzzedPeer } from "./fuzzed-peer.ts";
import { recordedDisk } from "./sessions.ts";

/** Small, so that what is in flight reaches them. */
export const limits = { requestsInFlightMax: 8, bytesInFlightMax: 2 ** 17 };

/** What is written to a client may wait: the most that the network takes, and one reply or batch more. */
const queuedBytesMax = 2 ** 20 + 2 * payloadBytesMax;

/** A server of one disk that is watched: how often it is asked at once, and for what. */
export class FuzzedServer {
  readonly served: Served;
  readonly #disk: MemoryDevice;

  private constructor(served: Served, disk: MemoryDevice) {
    this.served = served;
    this.#disk = disk;
  }

  /** With `random` some requests take a few turns. */
  static async start(random?: SeededRandom): Promise<FuzzedServer> {
    const disk = await recordedDisk();
    const served = await serve(
      { disk: watched(disk, random) },
      { server: limits, log: failingLog, net: { queuedBytesMax: 2 ** 20 } },
    );
    return new FuzzedServer(served, disk);
  }

  async connect(): Promise<FuzzedPeer> {
    return new FuzzedPeer(await this.served.net.connect(address));
  }

  /** Everybody has left: nothing of it stays, and a client that keeps to the rules is served. */
  async checkAfterwards(): Promise<void> {
    const { server, exports, connect, net } = this.served;
    await settle();
    // Who held on to a connection is cut off, in the time that the limits say.
    this.served.timers.advance(handshakeMs + closeMs);
    for (let turn = 0; turn < 20 && server.connections().length > 0; turn++) await settle();
    assert.deepEqual(server.connections(), [], "a session does not end");
    assert.deepEqual(exports.clients("disk"), [], "an export stays open");
    for (const { queuedBytesPeak } of net.accepted) assert.ok(queuedBytesPeak <= queuedBytesMax);
    const client = await (await connect()).go("disk", "structured");
    client.send({ command: 0, offset: 2 ** 16, length: 512 });
    const [reply] = await client.replies();
    const expected = Buffer.alloc(512);
    this.#disk.read(expected, 2 ** 16);
    assert.deepEqual(Buffer.from(reply?.payload ?? []).subarray(8), expected);
    client.send({ command: 2 });
    await client.channel.closed;
    await this.served.stop();
    assert.equal(this.served.timers.pending, 0);
  }
}

function watched(device: BlockDevice, random: SeededRandom | undefined): BlockDevice {
  let [requests, bytes] = [0, 0];
  return interceptDevice(device, ({ operation, offset, length }, run) => {
    assert.ok(Number.isInteger(offset) && Number.isInteger(length), "whole bytes");
    assert.ok(offset >= 0 && length >= 0 && offset + length <= device.sizeBytes, "inside the disk");
    if (random === undefined || random.below(2) === 0) return run();
    const cost = operation === "read" || operation === "write" ? length : 0;
    [requests, bytes] = [requests + 1, bytes + cost];
    assert.ok(requests <= limits.requestsInFlightMax, `${requests} requests at once`);
    assert.ok(bytes <= limits.bytesInFlightMax + device.sizeBytes, `${bytes} bytes at once`);
    const turns = random.below(3);
    return later(turns).then(() => {
      [requests, bytes] = [requests - 1, bytes - cost];
      return run();
    });
  });
}

async function later(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
}

/** Errors in the server's log are for what nobody thought of. */
const failingLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error(event, fields) {
    assert.fail(`the server logged: ${event} ${JSON.stringify(fields)}`);
  },
};
