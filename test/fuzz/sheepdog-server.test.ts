import assert from "node:assert/strict";
import { test } from "node:test";
import type { SeededRandom } from "../../sim/random.ts";
import type { Log } from "../../src/host/log.ts";
import { closeMs, payloadBytesMax, stalledMs } from "../../src/sheepdog/limits.ts";
import { inodeOid, type Oid, type OidKind } from "../../src/sheepdog/wire-oid.ts";
import { opcode, requestFlag } from "../../src/sheepdog/wire-opcodes.ts";
import * as wire from "../../src/sheepdog/wire-request.ts";
import { encodeSelectorText } from "../../src/sheepdog/wire-text.ts";
import { checkStore } from "../../src/store/check.ts";
import { FakeObjects } from "../support/fake-objects.ts";
import { openMemoryObjects } from "../support/memory-objects.ts";
import { settle } from "../support/raw-nbd.ts";
import { address, RawSheepdog, serveObjects } from "../support/raw-sheepdog.ts";
import { isSoak } from "../support/soak.ts";
import { countAllocations } from "./allocations.ts";
import { fuzz } from "./fuzz.ts";
import { FuzzedPeer, type Turn } from "./fuzzed-peer.ts";
import { pick } from "./generated-requests.ts";
import { mutate } from "./mutate.ts";

/** Small, so that what is in flight reaches them. */
const limits = { requestsInFlightMax: 8, bytesInFlightMax: 2 ** 17 };
/** What is written to a client may wait: the most that the network takes, and one reply or batch more. */
const queuedBytesMax = 2 ** 20 + 2 * payloadBytesMax;
/** Room for the longest reply there is, and its header, comes in powers of two. */
const allocationBytesMax = 2 * payloadBytesMax;
/** GET_HASH of the largest object gives up 2,048 turns; all that may be in flight may be such. */
const settlesMax = 2_048 * limits.requestsInFlightMax;

const vid = 0x7c2b25;
const none = new Uint8Array(0);

/** An error in the log is for what nobody thought of. */
const failingLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error(event, fields) {
    assert.fail(`the server logged: ${event} ${JSON.stringify(fields)}`);
  },
};

/** Checks what the server asks of the disks, and lets some of it wait. */
class WatchedObjects extends FakeObjects {
  readonly #random: SeededRandom | undefined;

  constructor(random: SeededRandom | undefined) {
    super();
    this.#random = random;
  }

  override read(id: Oid, offset: number, target: Uint8Array): void | Promise<void> {
    this.#check(id, offset, target.length);
    return this.#later(() => super.read(id, offset, target));
  }

  override write(id: Oid, offset: number, chunks: readonly Uint8Array[]): void | Promise<void> {
    this.#check(id, offset, Buffer.concat(chunks).length);
    return this.#later(() => super.write(id, offset, chunks));
  }

  #check(id: Oid, offset: number, length: number): void {
    assert.ok(Number.isInteger(offset) && offset >= 0);
    assert.ok(offset + length <= this.sizeOf(id), "inside the object");
  }

  #later(run: () => void | Promise<void>): void | Promise<void> {
    if (this.#random === undefined || this.#random.below(2) === 0) return run();
    const turns = this.#random.below(3);
    return (async () => {
      for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
      await run();
    })();
  }
}

async function start(random?: SeededRandom) {
  const objects = new WatchedObjects(random);
  const options = { server: limits, log: failingLog, net: { queuedBytesMax: 2 ** 20 } };
  const served = await serveObjects({ objects, ...options });
  return { ...served, served, peer: new FuzzedPeer(await served.net.connect(address)) };
}

type Started = Awaited<ReturnType<typeof start>>;

/** Everybody has left: nothing of it stays, and a client that keeps to the rules is served. */
async function checkAfterwards({ served, server, objects, net, timers }: Started): Promise<void> {
  await settle();
  // Who held on to a connection is cut off, in the time that the limits say.
  timers.advance(stalledMs + closeMs);
  for (let at = 0; at < settlesMax && server.connections().length > 0; at++) await settle();
  assert.deepEqual(server.connections(), [], "a connection does not end");
  assert.equal(objects.clients.size, 0, "a client is still known");
  for (const { queuedBytesPeak } of net.accepted) assert.ok(queuedBytesPeak <= queuedBytesMax);
  const client = new RawSheepdog(await net.connect(address));
  assert.equal((await client.plain(opcode.getClusterDefault)).result, 0);
  client.connection.end();
  await served.stop();
  assert.equal(timers.pending, 0);
}

function prefix(code: number, given: Partial<wire.RequestPrefix>): wire.RequestPrefix {
  const protocolVersion = code >= 0x80 ? 10 : 1;
  return { protocolVersion, opcode: code, flags: 0, epoch: 0, id: code, dataLength: 0, ...given };
}

function withPayload(header: Uint8Array, payload: Uint8Array): Buffer {
  return Buffer.concat([header, payload]);
}

function named(code: number, name: string, fields: Partial<wire.VdiFields> = {}): Buffer {
  const payload = encodeSelectorText(name);
  const given = { flags: requestFlag.write, dataLength: payload.length };
  return withPayload(wire.encodeVdiRequest(prefix(code, given), fields), payload);
}

function moved(code: number, oid: Oid, payload: Uint8Array, offset = 0): Buffer {
  const given = { flags: requestFlag.write, dataLength: payload.length };
  return withPayload(wire.encodeObjectRequest(prefix(code, given), { oid, offset }), payload);
}

function asked(code: number, oid: Oid, dataLength = 0, offset = 0): Buffer {
  return Buffer.from(wire.encodeObjectRequest(prefix(code, { dataLength }), { oid, offset }));
}

const object: Oid = { kind: "data", vid, index: 0 };

/** A session in which everything goes well. */
const session: Buffer[] = [
  named(opcode.newVdi, "test", { sizeBytes: 2 ** 24 }),
  named(opcode.lockVdi, "test"),
  asked(opcode.readObject, inodeOid(vid), 600),
  moved(opcode.createAndWriteObject, object, Buffer.alloc(700, 3), 512),
  moved(opcode.writeObject, inodeOid(vid), Buffer.from([0x25, 0x2b, 0x7c, 0]), 4664),
  moved(opcode.writeObject, object, Buffer.alloc(200, 4), 100),
  asked(opcode.readObject, object, 1000),
  asked(opcode.flushVdi, inodeOid(vid)),
  named(opcode.newVdi, "test", { sizeBytes: 2 ** 24, baseVid: vid, snapId: 1 }),
  moved(opcode.writeObject, object, Buffer.alloc(9)),
  named(opcode.releaseVdi, "test", { baseVid: vid }),
  named(opcode.deleteVdi, "test"),
];
const said = Buffer.concat(session);

async function answersTo(turns: readonly Turn[]): Promise<Buffer> {
  const started = await start();
  await started.peer.play(turns);
  await started.peer.leave();
  await started.served.stop();
  return started.peer.heard;
}

/** Each request once those before it are answered. */
const inStep: Turn[] = session.map((bytes, index) => {
  const answered = session.slice(0, index);
  const reads = answered.filter((request) => request[1] === opcode.readObject);
  const data = reads.reduce((sum, request) => sum + request.readUInt32LE(12), 0);
  return { bytes, heardBytes: 48 * index + data };
});

/** The session in one more piece, cut before the byte `at`. */
function cutAt(at: number): Turn[] {
  let position = 0;
  return inStep.flatMap((turn) => {
    const within = at - position;
    position += turn.bytes.length;
    if (within <= 0 || within >= turn.bytes.length) return [turn];
    const [first, second] = [turn.bytes.subarray(0, within), turn.bytes.subarray(within)];
    return [
      { ...turn, bytes: first },
      { ...turn, bytes: second },
    ];
  });
}

test("wherever a session is cut in two, the answers are the same", async () => {
  const expected = await answersTo(inStep);
  assert.equal(expected.length, 48 * session.length + 600 + 1000);
  for (let at = 1; at < said.length; at += isSoak ? 1 : 7) {
    assert.deepEqual(await answersTo(cutAt(at)), expected, `cut at ${at}`);
  }
});

test("wherever a session ends, nothing of it stays", async () => {
  for (let at = 0; at < said.length; at += isSoak ? 1 : 7) {
    const started = await start();
    await started.peer.play([{ heardBytes: 0, bytes: said.subarray(0, at) }]);
    await started.peer.leave();
    await checkAfterwards(started);
  }
});

async function endure(turns: readonly Turn[], random: SeededRandom): Promise<number> {
  const { result, largestBytes } = await countAllocations(async () => {
    const started = await start(random);
    await started.peer.play(turns);
    if (random.below(4) === 0) started.timers.advance(stalledMs);
    if (random.below(4) === 0) started.peer.connection.destroy();
    else await started.peer.leave();
    await checkAfterwards(started);
    return started.peer.heardBytes;
  });
  assert.ok(largestBytes <= allocationBytesMax, `${largestBytes} bytes were asked for at once`);
  return result;
}

fuzz("a Sheepdog server and a session with changes", { runs: 400 }, async (random, tally) => {
  const turns = session.map((bytes) => ({ heardBytes: 0, bytes }));
  const chosen = random.below(turns.length);
  const changed = turns.map((turn, index) =>
    index === chosen || random.below(turns.length * 2) === 0
      ? { ...turn, bytes: mutate(turn.bytes, random, session) }
      : turn,
  );
  tally("bytes answered", await endure(changed, random));
});

fuzz("a Sheepdog server and invented requests", { runs: 400 }, async (random, tally) => {
  const messages = [session[0] as Buffer];
  for (let count = random.below(40); count > 0; count--) messages.push(randomRequest(random));
  const turns = messages.map((message) => ({
    heardBytes: 0,
    bytes: random.below(60) === 0 ? mutate(message, random, messages) : message,
  }));
  tally("requests", turns.length);
  tally("bytes answered", await endure(turns, random));
});

fuzz("a store that Sheepdog serves, and invented requests", { runs: 60 }, async (random, tally) => {
  const opened = await openMemoryObjects();
  const options = { server: limits, log: failingLog, net: { queuedBytesMax: 2 ** 20 } };
  const served = await serveObjects({ objects: opened.objects, ...options });
  for (let count = 0; count < 3; count++) {
    const peer = new FuzzedPeer(await served.net.connect(address));
    const [create = none, ...others] = session;
    const messages = count === 0 ? [create, ...others.slice(0, random.below(others.length))] : [];
    for (let more = random.below(60); more > 0; more--) messages.push(randomRequest(random));
    // Some wait for the answers before, so that there is something to change.
    for (const message of messages) {
      await peer.play([
        { heardBytes: random.below(3) === 0 ? 0 : peer.heardBytes, bytes: message },
      ]);
    }
    await peer.leave();
    tally("requests", messages.length);
    tally("bytes answered", peer.heardBytes);
  }
  const client = new RawSheepdog(await served.net.connect(address));
  assert.equal((await client.plain(opcode.getClusterDefault)).result, 0);
  client.connection.end();
  await served.stop();
  const { findings } = await checkStore(opened.vdis.store, { repair: false });
  assert.deepEqual(findings, []);
  await opened.vdis.close();
});

const codes = Object.values(opcode);
const kinds: OidKind[] = ["data", "vmstate", "inode", "attribute", "btree", "ledger"];
const lengths = [0, 1, 4, 24, 256, 511, 512, 4096, 65_536, 2 ** 20, 2 ** 21, 491_520, 491_568];
const longLengths = [
  ...lengths,
  2 ** 22 + 1,
  2 ** 26,
  2 ** 26 + 1,
  2 ** 31,
  2 ** 31 + 1,
  2 ** 32 - 1,
];

function randomRequest(random: SeededRandom): Buffer {
  const code = random.below(20) === 0 ? random.below(256) : pick(random, codes);
  const hasPayload = random.below(2) === 0;
  const payload = hasPayload ? Buffer.alloc(pick(random, lengths), random.below(256)) : none;
  let flags = hasPayload ? requestFlag.write : 0;
  while (random.below(3) === 0) flags |= 1 << (1 + random.below(15));
  const version = random.below(20) === 0 ? random.below(256) : code >= 0x80 ? 10 : 2;
  const given = {
    protocolVersion: version,
    flags,
    id: random.below(2 ** 31),
    // What is announced is true, or the rest of the session is read as its payload.
    dataLength: hasPayload
      ? payload.length
      : pick(random, random.below(9) > 0 ? lengths : longLengths),
  };
  if (random.below(3) === 0) {
    const oid = { kind: pick(random, kinds), vid: vid + random.below(3), index: random.below(3) };
    const offset = pick(random, [0, 1, 4664, 2 ** 22 - 512, 2 ** 22, 2 ** 32 - 1]);
    const copyFrom = { kind: "data", vid, index: 0 } as const;
    const fields = { oid, offset, copyFrom };
    return withPayload(wire.encodeObjectRequest(prefix(code, given), fields), payload);
  }
  const fields = {
    sizeBytes: pick(random, [0, 1, 2 ** 24, 2 ** 53 - 1]),
    baseVid: pick(random, [0, vid, vid + 1, 2 ** 32 - 1]),
    snapId: random.below(3),
    lockType: random.below(3),
    blockSizeShift: pick(random, [0, 20, 22, 31, 32, 255]),
  };
  if (random.below(2) === 0 && hasPayload)
    return named(code, pick(random, ["test", "", "x"]), fields);
  return withPayload(wire.encodeVdiRequest(prefix(code, given), fields), payload);
}
