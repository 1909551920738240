import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import type { FakeObjects } from "../../test/support/fake-objects.ts";
import { settle } from "../../test/support/raw-nbd.ts";
import {
  none,
  type RawSheepdog,
  type ServedObjects,
  serveObjects,
} from "../../test/support/raw-sheepdog.ts";
import type { Objects } from "../vdi/objects/objects.ts";
import { bytesInFlightMax, payloadBytesMax, stalledMs } from "./limits.ts";
import { operations } from "./operations.ts";
import { result } from "./results.ts";
import { inodeOid, type Oid } from "./wire-oid.ts";
import { opcode, requestFlag } from "./wire-opcodes.ts";
import * as wire from "./wire-request.ts";

const objectBytes = 4 * 2 ** 20;
let running: ServedObjects<Objects> | undefined;
afterEach(async () => {
  await running?.stop();
  running = undefined;
});

async function serve(
  options: Parameters<typeof serveObjects>[0] = {},
): Promise<ServedObjects<FakeObjects>> {
  const served = await serveObjects<FakeObjects>(options as object);
  running = served;
  return served;
}

/** A VDI "test" of 16 MiB, with nothing in it, and somebody to ask for it. */
async function withVdi(options: Parameters<typeof serveObjects>[0] = {}) {
  const served = await serve(options);
  const client = await served.connect();
  const vid = await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 24 });
  const data = (index: number): Oid => ({ kind: "data", vid, index });
  return { ...served, served, client, vid, data };
}

async function create(client: RawSheepdog, oid: Oid, value = 7): Promise<void> {
  assert.equal(await client.create(oid, 0, new Uint8Array(4096).fill(value)), result.success);
}

test("every opcode of the protocol is answered as the table says", async () => {
  const served = await serve();
  const client = await served.connect();
  const known = new Set<number>(Object.values(opcode));
  assert.deepEqual(
    [...operations.keys()].filter((code) => !known.has(code)),
    [],
  );
  assert.deepEqual(
    [...known].filter((code) => !operations.has(code)),
    [],
  );
  for (let code = 0; code < 256; code++) {
    const operation = operations.get(code);
    if (operation !== undefined && operation.kind !== "refused") continue;
    const expected = operation === undefined ? result.invalidParameters : operation.result;
    const reply = await client.plain(code);
    assert.deepEqual([reply.opcode, reply.result], [code, expected], operation?.name);
  }
});

test("a reply has the opcode, the id and the cluster's epoch, and no flags and version", async () => {
  const client = await (await serve()).connect();
  const reply = await client.plain(opcode.getClusterDefault, 0, { id: 0xfedcba98, epoch: 7 });
  const expected = "00180000" + "01000000" + "98badcfe" + "00000000" + "00000000";
  assert.equal(Buffer.from(reply.header.subarray(0, 20)).toString("hex"), expected);
});

test("versions are checked before anything else", async () => {
  const client = await (await serve()).connect();
  const resultOf = async (code: number, protocolVersion: number) => {
    return (await client.plain(code, 0, { protocolVersion })).result;
  };
  for (const version of [0, 1, 2]) {
    assert.equal(await resultOf(opcode.getClusterDefault, version), result.success);
  }
  for (const version of [3, 10, 255]) {
    assert.equal(await resultOf(opcode.getClusterDefault, version), result.versionMismatch);
  }
  assert.equal(await resultOf(opcode.statSheep, 10), result.success);
  for (const version of [0, 1, 2, 9, 11]) {
    assert.equal(await resultOf(opcode.statSheep, version), result.versionMismatch);
  }
  assert.equal(await resultOf(0x7f, 3), result.versionMismatch);
  assert.equal(await resultOf(0x7f, 2), result.invalidParameters);
});

test("an error has no payload, and the payload of the request is taken off", async () => {
  const { client, data } = await withVdi();
  const refusal = await client.tell(0x7f, new Uint8Array(10_000));
  assert.deepEqual([refusal.result, refusal.dataLength], [result.invalidParameters, 0]);
  const behind = await client.read(data(2 ** 19), 0, 4096);
  assert.deepEqual([behind.result, behind.dataLength], [result.noObject, 0]);
  assert.equal(await client.write(data(0), 0, new Uint8Array(512)), result.noObject);
});

test("a read brings exactly as much as was asked for", async () => {
  const { client, data, vid } = await withVdi();
  await create(client, data(0));
  for (const length of [0, 1, 4095, 4097, objectBytes]) {
    const reply = await client.read(data(0), 0, length);
    assert.deepEqual([reply.result, reply.payload.length], [result.success, length]);
    assert.equal(reply.payload[4095] ?? 7, 7);
    assert.equal(reply.payload[4096] ?? 0, 0);
  }
  const inode = await client.read(inodeOid(vid), 0, 12_587_576);
  assert.equal(inode.payload.length, 12_587_576);
  assert.equal(Buffer.from(inode.payload.subarray(0, 5)).toString(), "test\0");
});

test("what reaches over the end of an object is refused", async () => {
  const { client, data } = await withVdi();
  await create(client, data(0));
  const results = [
    (await client.read(data(0), objectBytes - 511, 512)).result,
    await client.write(data(0), objectBytes - 511, new Uint8Array(512)),
    await client.create(data(1), objectBytes, new Uint8Array(1)),
  ];
  assert.deepEqual(results, Array(3).fill(result.invalidParameters));
  assert.equal(await client.write(data(0), objectBytes, none), result.success);
});

test("flags that contradict the opcode are refused", async () => {
  const { client, data } = await withVdi();
  await create(client, data(0));
  // A read that brings a payload, and a write that brings none of what it announces.
  client.send(...client.writeRequest(opcode.readObject, { oid: data(0) }, new Uint8Array(9)));
  assert.equal((await client.reply()).result, result.invalidParameters);
  const write = await client.object(opcode.writeObject, data(0), { dataLength: 512 });
  assert.equal(write.result, result.invalidParameters);
  // An id of two kinds.
  const bytes = wire.encodeObjectRequest(client.prefix(opcode.readObject), { oid: data(0) });
  bytes[23] = 0xc0;
  client.send(bytes);
  assert.equal((await client.reply()).result, result.invalidParameters);
});

test("requests sent together are answered in one write", async () => {
  const { client, data } = await withVdi();
  await create(client, data(0));
  client.chunksReceived = 0;
  const read = (id: number) => {
    const prefix = client.prefix(opcode.readObject, { id, dataLength: 512 });
    return wire.encodeObjectRequest(prefix, { oid: data(0) });
  };
  client.send(Buffer.concat([1, 2, 3, 4, 5, 6].map(read)));
  for (const id of [1, 2, 3, 4, 5, 6]) assert.equal((await client.reply()).id, id);
  assert.equal(client.chunksReceived, 1);
});

test("replies come when they are ready, whatever was asked before", async () => {
  const { client, data, vid, objects } = await withVdi();
  await create(client, data(0));
  const gate = Promise.withResolvers<void>();
  objects.hold = gate.promise;
  const prefix = client.prefix(opcode.readObject, { id: 100, dataLength: 4096 });
  client.send(wire.encodeObjectRequest(prefix, { oid: data(0) }));
  client.send(...client.writeRequest(3, { oid: data(0) }, new Uint8Array(9), { id: 101 }));
  assert.equal((await client.read(inodeOid(vid), 0, 4)).id !== 100, true);
  gate.resolve();
  const replies = [await client.reply(), await client.reply()];
  assert.deepEqual(
    replies.map(({ id, dataLength }) => [id, dataLength]),
    [
      [100, 4096],
      [101, 0],
    ],
  );
});

test("operations of the cluster wait for each other, over all connections", async () => {
  const { client, objects, served } = await withVdi();
  const other = await served.connect();
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const { newVdi, lookup } = objects;
  objects.newVdi = async (request) => {
    order.push("new begins");
    await gate.promise;
    const made = await newVdi.call(objects, request);
    order.push("new ends");
    return made;
  };
  objects.lookup = async (selector) => {
    order.push(`lookup ${selector.name}`);
    return lookup.call(objects, selector);
  };
  const made = client.vidOf(opcode.newVdi, "second", { sizeBytes: 2 ** 20 });
  await settle();
  const found = other.vidOf(opcode.getVdiInfo, "second");
  await settle();
  assert.deepEqual(order, ["new begins"]);
  gate.resolve();
  assert.equal(await found, await made);
  assert.deepEqual(order, ["new begins", "new ends", "lookup second"]);
});

test("object requests do not wait for operations of the cluster", async () => {
  const { client, data, objects, served } = await withVdi();
  await create(client, data(0));
  const gate = Promise.withResolvers<void>();
  objects.deleteVdi = () => gate.promise.then(() => 1);
  const other = await served.connect();
  const gone = other.vidOf(opcode.deleteVdi, "test");
  await settle();
  assert.equal((await client.read(data(0), 0, 512)).result, result.success);
  gate.resolve();
  assert.equal(await gone, 1);
});

test("a longer payload than is taken is thrown away as it comes", async () => {
  const { client, data, net } = await withVdi({ net: { chunkBytesMax: 2 ** 16 } });
  const longer = new Uint8Array(payloadBytesMax + 1);
  assert.equal(await client.write(data(0), 0, longer), result.invalidParameters);
  assert.ok((net.accepted[0]?.heldBytesPeak ?? Infinity) <= 2 ** 16);
  assert.equal((await client.plain(opcode.getClusterDefault)).result, result.success);
});

test("a payload of impossible length ends the connection", async () => {
  const { client } = await withVdi();
  const prefix = client.prefix(opcode.writeObject, { flags: 1, dataLength: 2 ** 31 + 1 });
  client.send(wire.encodePlainRequest(prefix));
  await client.closed;
  assert.equal(client.unreadBytes, 0);
});

test("it stops reading while too much is in flight", async () => {
  const limits = { requestsInFlightMax: 4, bytesInFlightMax: 8192 };
  const { client, data, objects, server } = await withVdi({ server: limits });
  await create(client, data(0));
  const gate = Promise.withResolvers<void>();
  objects.hold = gate.promise;
  const read = (id: number, dataLength: number) => {
    const prefix = client.prefix(opcode.readObject, { id, dataLength });
    return wire.encodeObjectRequest(prefix, { oid: data(0) });
  };
  for (let id = 0; id < 10; id++) client.send(read(id, 512));
  await settle();
  assert.equal(server.connections()[0]?.requestsInFlight, 4);
  objects.hold = undefined;
  gate.resolve();
  for (let id = 0; id < 10; id++) assert.equal((await client.reply()).dataLength, 512);
  const second = Promise.withResolvers<void>();
  objects.hold = second.promise;
  for (let id = 0; id < 10; id++) client.send(read(id, 4097));
  await settle();
  assert.equal(server.connections()[0]?.requestsInFlight, 2);
  second.resolve();
  for (let id = 0; id < 10; id++) assert.equal((await client.reply()).dataLength, 4097);
});

test("a client that does not take its replies is not listened to", async () => {
  const { client, data, net, server } = await withVdi();
  await create(client, data(0));
  client.connection.pause();
  for (let id = 0; id < 60; id++) {
    const prefix = client.prefix(opcode.readObject, { id, dataLength: objectBytes });
    client.send(wire.encodeObjectRequest(prefix, { oid: data(0) }));
  }
  await settle();
  const [connection] = net.accepted;
  assert.ok((connection?.queuedBytesPeak ?? Infinity) <= 2 ** 20 + 2 * objectBytes);
  assert.ok((server.connections()[0]?.requests ?? 99) < 10);
  client.connection.resume();
  for (let id = 0; id < 60; id++) assert.equal((await client.reply()).id, id);
});

test("who sends half a request and waits is cut off; who is silent between requests is not", async () => {
  const { client, data, timers, served } = await withVdi();
  const half = await served.connect();
  const part = wire.encodePlainRequest(half.prefix(opcode.getClusterDefault));
  half.send(part.subarray(0, 20));
  const noPayload = await served.connect();
  const [header = none] = noPayload.writeRequest(3, { oid: data(0) }, new Uint8Array(4096));
  noPayload.send(header);
  await settle();
  timers.advance(stalledMs - 1);
  half.send(part.subarray(20, 21));
  await settle();
  timers.advance(1);
  await noPayload.closed;
  assert.equal(half.isClosed, false, "more of it came");
  timers.advance(stalledMs);
  await half.closed;
  timers.advance(100 * stalledMs);
  assert.equal((await client.plain(opcode.getClusterDefault)).result, result.success);
});

test("what waits because of the server is not cut off", async () => {
  const { client, data, timers, objects } = await withVdi({ server: { requestsInFlightMax: 1 } });
  await create(client, data(0));
  const gate = Promise.withResolvers<void>();
  objects.hold = gate.promise;
  const [header = none, payload = none] = client.writeRequest(
    3,
    { oid: data(0) },
    Buffer.alloc(99),
  );
  client.send(header, payload, header);
  await settle();
  timers.advance(2 * stalledMs);
  assert.equal(client.isClosed, false);
  gate.resolve();
  client.send(payload);
  assert.deepEqual([(await client.reply()).result, (await client.reply()).result], [0, 0]);
});

test("closing answers what was begun, and ends without an error for the rest", async () => {
  const { client, data, objects, served, vid } = await withVdi();
  await create(client, data(0));
  const gate = Promise.withResolvers<void>();
  objects.hold = gate.promise;
  client.send(...client.writeRequest(3, { oid: data(0) }, new Uint8Array(512), { id: 77 }));
  await settle();
  const closed = served.server.close();
  client.send(...client.writeRequest(3, { oid: inodeOid(vid) }, none));
  await settle();
  gate.resolve();
  const reply = await client.reply();
  assert.deepEqual([reply.id, reply.result], [77, result.success]);
  await client.closed;
  await closed;
  assert.equal(client.unreadBytes, 0);
  assert.equal(objects.clients.size, 0);
});

test("a connection that is lost in the middle leaves nothing behind", async () => {
  const { client, data, objects, server, net } = await withVdi();
  await create(client, data(0));
  const gate = Promise.withResolvers<void>();
  objects.hold = gate.promise;
  client.send(...client.writeRequest(3, { oid: data(0) }, new Uint8Array(8192)));
  await settle();
  client.connection.destroy();
  await settle();
  assert.equal(server.connections().length, 1, "a disk is still asked for it");
  gate.resolve();
  await settle();
  assert.deepEqual(server.connections(), []);
  assert.equal(net.accepted[0]?.heldBytes, 0);
  assert.equal(objects.clients.size, 0);
});

test("who uses a disk is told once for each disk and connection", async () => {
  const { client, data, objects, vid } = await withVdi();
  await create(client, data(0));
  await create(client, data(1));
  const other = await client.vidOf(opcode.newVdi, "other", { sizeBytes: 2 ** 22 });
  await create(client, { kind: "data", vid: other, index: 0 });
  await client.read(data(0), 0, 1);
  assert.deepEqual(objects.used_, [`memory ${vid}`, `memory ${other}`]);
});

test("a mistake of the server's is logged and is one failed request", async () => {
  const events: string[] = [];
  const log = { debug() {}, info() {}, warn() {}, error: (event: string) => events.push(event) };
  const { client, objects, data } = await withVdi({ log });
  objects.read = () => {
    throw new TypeError("oops");
  };
  objects.lookup = async () => {
    throw new TypeError("oops");
  };
  assert.equal((await client.read(data(0), 0, 1)).result, result.systemError);
  assert.equal((await client.vdi(opcode.getVdiInfo, "test")).result, result.systemError);
  assert.deepEqual(events, Array(2).fill("sheepdog request failed unexpectedly"));
});

test("more connections than are allowed are refused", async () => {
  const served = await serve({ server: { connectionsMax: 2 } });
  const first = await served.connect();
  await served.connect();
  const third = await served.connect();
  await third.closed;
  assert.equal((await first.plain(opcode.getClusterDefault)).result, result.success);
});

test("a server in the middle of a large read has not room for a second beside it", async () => {
  // The limits together: what is in flight, and the request that reaches over them.
  assert.ok(bytesInFlightMax >= payloadBytesMax);
  const { client, data, objects, server } = await withVdi({
    server: { bytesInFlightMax: 2 ** 21 },
  });
  await create(client, data(0));
  const gate = Promise.withResolvers<void>();
  objects.hold = gate.promise;
  for (let id = 0; id < 3; id++) {
    const prefix = client.prefix(opcode.readObject, { dataLength: objectBytes });
    client.send(wire.encodeObjectRequest(prefix, { oid: data(0) }));
  }
  await settle();
  assert.equal(server.connections()[0]?.requestsInFlight, 1);
  gate.resolve();
  for (let id = 0; id < 3; id++) assert.equal((await client.reply()).dataLength, objectBytes);
});

test("a flush, a discard and a removal reach the disk", async () => {
  const { client, data, objects, vid } = await withVdi();
  await create(client, data(0));
  await create(client, data(1));
  const flags = { flags: requestFlag.cache };
  assert.equal((await client.object(opcode.flushVdi, inodeOid(vid), flags)).result, 0);
  assert.deepEqual(objects.flushed, [vid]);
  assert.equal((await client.object(opcode.discardObject, data(0))).result, result.success);
  assert.equal((await client.object(opcode.removeObject, data(1))).result, result.success);
  assert.equal((await client.object(opcode.removeObject, data(1))).result, result.noObject);
});
