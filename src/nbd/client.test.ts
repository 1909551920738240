import assert from "node:assert/strict";
import { test } from "node:test";
import { blockDeviceSuite, isZero } from "../../test/conformance/block-device-suite.ts";
import { GatedDevice } from "../../test/support/gated-device.ts";
import { ManualTimers } from "../../test/support/manual-timers.ts";
import { MemoryNet } from "../../test/support/memory-net.ts";
import { address, serve, settle } from "../../test/support/raw-nbd.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { FaultDevice } from "../block/fault.ts";
import { MemoryDevice } from "../block/memory-device.ts";
import { readOnlyDevice } from "../block/read-only.ts";
import { Channel } from "./channel.ts";
import { connectNbd, listNbdExports, type NbdClient, type NbdClientSettings } from "./client.ts";
import { Coverage } from "./client-replies.ts";
import * as handshake from "./wire-handshake.ts";
import * as wire from "./wire-transmission.ts";

type Settings = Partial<NbdClientSettings>;

async function connected(device: BlockDevice, settings: Settings = {}) {
  const served = await serve({ disk: device }, { net: { chunkBytesMax: 65_536 } });
  const client = await connectNbd({ address, exportName: "disk", ...settings }, served);
  return { ...served, client };
}

for (const headers of ["simple", "structured", "extended"] as const) {
  if (headers !== "simple") {
    blockDeviceSuite(
      `client with ${headers} headers`,
      async (sizeBytes) => {
        const { client, stop } = await connected(new MemoryDevice(sizeBytes), { headers });
        return {
          device: client,
          close: async () => {
            await client.close();
            await stop();
          },
        };
      },
      { historiesMax: 10 },
    );
  }

  test(`${headers}: the client gets what it asks for`, async () => {
    const { client, stop } = await connected(new MemoryDevice(2 ** 20), { headers });
    assert.equal(client.terms.style, headers);
    assert.equal(client.terms.description, "about disk");
    const bytes = new Uint8Array(5000).map((_, at) => at);
    await client.write([bytes.subarray(0, 7), bytes.subarray(7)], 99);
    const back = new Uint8Array(5000);
    await client.read(back, 99);
    assert.deepEqual(back, bytes);
    await client.close();
    await stop();
  });

  test(`${headers}: what is longer than the protocol allows is sent in pieces`, async () => {
    const { client, stop } = await connected(new MemoryDevice(2 ** 34), { headers });
    const bytes = new Uint8Array(33 * 2 ** 20).fill(3);
    await client.write([bytes.subarray(0, 2 ** 24 - 5), bytes.subarray(2 ** 24 - 5)], 5);
    const back = new Uint8Array(bytes.length + 10);
    await client.read(back, 0);
    assert.deepEqual(
      [back[4], back[5], back[bytes.length + 4], back[bytes.length + 5]],
      [0, 3, 3, 0],
    );
    await client.zero(0, 2 ** 34);
    await client.trim(0, 2 ** 34);
    await client.read(back, 0);
    assert.ok(isZero(back));
    await client.close();
    await stop();
  });
}

test("without contexts everything is data", async () => {
  const { client, stop } = await connected(new MemoryDevice(8192), { headers: "simple" });
  const query = { offset: 512, length: 4096, extentsMax: 9 };
  const data = [{ lengthBytes: 4096, value: 0 }];
  assert.deepEqual(await client.extents({ kind: "allocation", ...query }), data);
  assert.deepEqual(await client.changeBases(), []);
  await client.close();
  await stop();
});

test("changes since the points that were named at connecting can be asked for", async () => {
  const device = new MemoryDevice(2 ** 20);
  device.changeBases = async () => ["s1", "s2"];
  device.extents = async (query) => {
    assert.ok(query.kind !== "changed" || query.since === "s2");
    return [
      { lengthBytes: 4096, value: 1 },
      { lengthBytes: query.length - 4096, value: 0 },
    ];
  };
  const { client, stop } = await connected(device, { changesSince: ["s2"] });
  assert.deepEqual(await client.changeBases(), ["s1", "s2"]);
  const query = { kind: "changed", offset: 0, length: 65_536, extentsMax: 9 } as const;
  assert.deepEqual(await client.extents({ ...query, since: "s2" }), [
    { lengthBytes: 4096, value: 1 },
    { lengthBytes: 61_440, value: 0 },
  ]);
  await assert.rejects(client.extents({ ...query, since: "s1" }), { code: "not-found" });
  await client.close();
  await stop();
});

test("errors of the device come back with their codes", async () => {
  const faulty = new FaultDevice(new MemoryDevice(2 ** 20));
  for (const headers of ["simple", "extended"] as const) {
    const { client, stop } = await connected(faulty.device, { headers });
    for (const code of ["io", "no-space", "unsupported", "read-only", "invalid"] as const) {
      faulty.inject({ code });
      await assert.rejects(async () => client.write([new Uint8Array(512)], 0), { code });
      faulty.inject({ code });
      await assert.rejects(async () => client.read(new Uint8Array(512), 0), { code });
    }
    await client.read(new Uint8Array(512), 0);
    await client.close();
    await stop();
  }
});

test("a read-only export says so", async () => {
  const { client, stop } = await connected(readOnlyDevice(new MemoryDevice(2 ** 20)));
  assert.equal(client.readOnly, true);
  await assert.rejects(async () => client.write([new Uint8Array(512)], 0), { code: "read-only" });
  await client.close();
  await stop();
});

test("an unknown export is not found, and the connection is not left open", async () => {
  const { net, timers, server, stop } = await serve({ disk: new MemoryDevice(512) });
  const connecting = connectNbd({ address, exportName: "nope" }, { net, timers });
  await assert.rejects(connecting, { code: "not-found" });
  await settle();
  assert.deepEqual(server.connections(), []);
  await stop();
  assert.equal(timers.pending, 0);
});

test("exports can be listed", async () => {
  const { net, timers, stop } = await serve({ a: new MemoryDevice(512), b: new MemoryDevice(512) });
  assert.deepEqual(await listNbdExports(address, { net, timers }), [
    { name: "a", description: "about a" },
    { name: "b", description: "about b" },
  ]);
  await stop();
});

test("losing the connection fails everything in flight, and all that follows, with io", async () => {
  const gate = new GatedDevice(new MemoryDevice(2 ** 20));
  const { client, stop, server } = await connected(gate.device);
  const requests = [
    client.read(new Uint8Array(512), 0),
    client.write([new Uint8Array(512)], 0),
    client.flush(),
    client.extents({ kind: "allocation", offset: 0, length: 512, extentsMax: 1 }),
    ...Array.from({ length: 300 }, async () => client.cache(0, 512)),
  ];
  const outcomes = Promise.allSettled(requests);
  await settle();
  const stopping = stop();
  await settle();
  for (const outcome of await outcomes) {
    assert.equal(outcome.status, "rejected");
    assert.equal((outcome as PromiseRejectedResult).reason.code, "io");
  }
  await assert.rejects(async () => client.read(new Uint8Array(512), 0), { code: "io" });
  await client.close();
  gate.releaseAll();
  await settle();
  gate.releaseAll();
  await stopping;
  assert.deepEqual(server.connections(), []);
});

test("close waits for what is in flight and refuses what comes later", async () => {
  const gate = new GatedDevice(new MemoryDevice(2 ** 20));
  const { client, stop } = await connected(gate.device);
  const write = client.write([new Uint8Array(512)], 0);
  await settle();
  const closing = client.close();
  assert.equal(client.close(), closing);
  await assert.rejects(async () => client.flush(), { code: "closed" });
  gate.releaseAll();
  await write;
  await closing;
  await stop();
});

/** A server that says what a test tells it to; the handshake is done by the book. */
async function withScript(
  headers: "simple" | "structured" | "extended",
  answer: (request: wire.RequestHeader) => Uint8Array,
  body: (client: NbdClient) => Promise<void>,
): Promise<void> {
  const net = new MemoryNet();
  const timers = new ManualTimers();
  await net.listen(address, async (connection) => {
    const channel = new Channel(connection);
    try {
      await scriptedHandshake(channel, headers);
      for (;;) {
        const extended = headers === "extended";
        const bytes = await channel.take(extended ? wire.extendedRequestBytes : wire.requestBytes);
        const request = new wire.RequestHeader();
        if (extended) wire.decodeExtendedRequest(bytes, 0, request);
        else wire.decodeRequest(bytes, 0, request);
        channel.send(answer(request));
      }
    } catch {
      connection.destroy(); // the client has left, as it should
    }
  });
  const client = await connectNbd({ address, exportName: "x", headers }, { net, timers });
  await body(client);
  await client.close();
}

async function scriptedHandshake(
  channel: Channel,
  headers: wire.HeaderStyle,
  transmissionFlags: number = handshake.transmissionFlag.hasFlags,
): Promise<void> {
  const { option, optionReply, optionError } = handshake;
  channel.send(handshake.encodeGreeting(3));
  await channel.take(4);
  for (;;) {
    const header = handshake.decodeOptionHeader(await channel.take(16));
    const reply = (type: number, data?: Uint8Array) =>
      channel.send(handshake.encodeOptionReply(header.option, type, data));
    await channel.take(header.length);
    if (header.option === option.go) {
      const facts = { sizeBytes: 2 ** 20, transmissionFlags };
      reply(optionReply.info, handshake.encodeInfo({ type: "export", ...facts }));
      reply(optionReply.ack);
      return;
    }
    if (header.option === option.setMetaContext) {
      const context = { id: 7, name: "base:allocation" };
      reply(optionReply.metaContext, handshake.encodeMetaContext(context));
    }
    const isOurs =
      header.option === option.setMetaContext ||
      header.option === option.listMetaContext ||
      header.option === (headers === "extended" ? option.extendedHeaders : option.structuredReply);
    reply(isOurs ? optionReply.ack : optionError.unsupported);
  }
}

function chunk(
  request: wire.RequestHeader,
  type: number,
  payload: Uint8Array,
  { flags = 1, cookieLow = request.cookieLow, length = payload.length } = {},
): Uint8Array {
  const bytes = new Uint8Array(wire.structuredChunkBytes);
  const header = { flags, type, cookieHigh: 0, cookieLow, offsetHigh: 0, offsetLow: 0, length };
  wire.encodeChunkHeader(bytes, 0, header, false);
  return Buffer.concat([bytes, payload]);
}

function data(request: wire.RequestHeader, offset: number, length: number, flags = 1): Uint8Array {
  const payload = Buffer.alloc(8 + length, 5);
  payload.writeBigUInt64BE(BigInt(offset));
  return chunk(request, wire.chunkType.offsetData, payload, { flags });
}

const lies: Record<string, (request: wire.RequestHeader) => Uint8Array> = {
  "a wrong magic number": () => new Uint8Array(40),
  "a cookie it was never given": (r) => chunk(r, 0, new Uint8Array(0), { cookieLow: 4711 }),
  "less data than asked for": (r) => data(r, 0, 4095),
  "more data than asked for": (r) => data(r, 0, 4097),
  "data of another place": (r) => data(r, 512, 4096),
  "the same data twice": (r) => Buffer.concat([data(r, 0, 2048, 0), data(r, 1024, 2048, 0)]),
  "an empty data chunk": (r) => data(r, 0, 0),
  "a data chunk of 4 GiB": (r) => chunk(r, 1, new Uint8Array(0), { length: 2 ** 32 - 1 }),
  "success without any data": (r) => chunk(r, 0, new Uint8Array(0)),
  "an empty chunk that is not the last": (r) => chunk(r, 0, new Uint8Array(0), { flags: 0 }),
  "a block status for a read": (r) => chunk(r, 5, new Uint8Array(12).fill(1)),
  "an extended block status": (r) => chunk(r, 6, new Uint8Array(24).fill(1)),
  "a type that is not known": (r) => chunk(r, 17, new Uint8Array(3)),
  "an error without an error": (r) => chunk(r, 0x8001, new Uint8Array(6)),
  "an error that is cut short": (r) => chunk(r, 0x8001, new Uint8Array(3)),
  "an error of 4 GiB": (r) => chunk(r, 0x8001, new Uint8Array(0), { length: 2 ** 32 - 1 }),
  "a hole outside of the read": (r) => chunk(r, 2, wire.encodeOffsetHole(4096, 512)),
  "a simple reply to a read": (r) => {
    const bytes = new Uint8Array(16 + 4096);
    wire.encodeSimpleReply(bytes, 0, 0, 0, r.cookieLow);
    return bytes;
  },
};

for (const [name, answer] of Object.entries(lies)) {
  test(`a server that sends ${name} is dropped`, async () => {
    await withScript("structured", answer, async (client) => {
      await assert.rejects(async () => client.read(new Uint8Array(4096), 0), { code: "io" });
      await assert.rejects(async () => client.read(new Uint8Array(1), 0), { code: "io" });
    });
  });
}

test("a read may come in pieces, in any order, with holes", async () => {
  const answer = (r: wire.RequestHeader) =>
    Buffer.concat([
      data(r, r.offset + 3000, 1096, 0),
      chunk(r, wire.chunkType.offsetHole, wire.encodeOffsetHole(r.offset + 1000, 2000), {
        flags: 0,
      }),
      data(r, r.offset, 1000, 0),
      chunk(r, 0, new Uint8Array(0)),
    ]);
  await withScript("structured", answer, async (client) => {
    const target = new Uint8Array(4096).fill(9);
    await client.read(target, 512);
    const expected = new Uint8Array(4096).fill(5).fill(0, 1000, 3000);
    assert.deepEqual(target, expected);
  });
});

test("a read that fails in the middle fails as a whole, and the next one works", async () => {
  let count = 0;
  const answer = (r: wire.RequestHeader) => {
    if (count++ > 0) return data(r, r.offset, 4096);
    const error = Buffer.concat([
      wire.encodeError({ error: 5, message: "bad sector" }),
      new Uint8Array(8),
    ]);
    return Buffer.concat([data(r, 0, 512, 0), chunk(r, wire.chunkType.errorOffset, error)]);
  };
  await withScript("structured", answer, async (client) => {
    const target = new Uint8Array(4096);
    await assert.rejects(async () => client.read(target, 0), { code: "io", message: /bad sector/ });
    await client.read(target, 0);
  });
});

test("block status: a last extent past the request is fine, a foreign context is not", async () => {
  const extents = [
    { lengthBytes: 512, value: 3 },
    { lengthBytes: 2 ** 31, value: 0 },
  ];
  let contextId = 7;
  const answer = (r: wire.RequestHeader) =>
    chunk(r, wire.chunkType.blockStatus, wire.encodeBlockStatus({ contextId, extents }, false));
  await withScript("structured", answer, async (client) => {
    const query = { kind: "allocation", offset: 0, length: 4096, extentsMax: 8 } as const;
    assert.deepEqual(await client.extents(query), [
      { lengthBytes: 512, value: 1 },
      { lengthBytes: 3584, value: 0 },
    ]);
    contextId = 8;
    await assert.rejects(client.extents(query), { code: "io" });
  });
});

test("a block status that is given twice, or for contexts without end, is not collected", async () => {
  const extents = [{ lengthBytes: 512, value: 0 }];
  const query = { kind: "allocation", offset: 0, length: 4096, extentsMax: 8 } as const;
  for (const contextIds of [[7, 7], Array.from({ length: 65 }, (_, index) => index)]) {
    const answer = (r: wire.RequestHeader) =>
      Buffer.concat(
        contextIds.map((contextId) => {
          const status = wire.encodeBlockStatus({ contextId, extents }, false);
          return chunk(r, wire.chunkType.blockStatus, status, { flags: 0 });
        }),
      );
    await withScript("structured", answer, async (client) => {
      await assert.rejects(client.extents(query), { code: "io", message: /status too many/ });
    });
  }
});

test("a list of exports that has no end is not collected", async () => {
  const net = new MemoryNet();
  const { option, optionReply } = handshake;
  let sentBytes = 0;
  await net.listen(address, async (connection) => {
    const channel = new Channel(connection);
    channel.send(handshake.encodeGreeting(3));
    await channel.take(4 + handshake.optionHeaderBytes);
    const listed = handshake.encodeListedExport({ name: "x", description: "x".repeat(60_000) });
    const reply = handshake.encodeOptionReply(option.list, optionReply.server, listed);
    while (sentBytes < 2 ** 27 && connection.write([reply])) {
      sentBytes += reply.length;
      await settle();
    }
  });
  const listing = listNbdExports(address, { net, timers: new ManualTimers() });
  await assert.rejects(listing, { code: "io", message: /have no end/ });
  assert.ok(sentBytes < 2 ** 26 + 2 ** 20);
});

/** A client of a server that offers what these flags say and notes commands with their flags. */
async function withNotes(
  transmissionFlags: number,
  body: (client: NbdClient, seen: [command: number, flags: number][]) => Promise<void>,
): Promise<void> {
  const seen: [number, number][] = [];
  const net = new MemoryNet();
  await net.listen(address, async (connection) => {
    const channel = new Channel(connection);
    await scriptedHandshake(channel, "structured", transmissionFlags);
    const request = new wire.RequestHeader();
    for (;;) {
      wire.decodeRequest(await channel.take(28).catch(() => new Uint8Array(28)), 0, request);
      if (request.magic === 0 || request.command === wire.command.disconnect) break;
      if (request.command === wire.command.write) await channel.take(request.length);
      seen.push([request.command, request.flags]);
      const reply = new Uint8Array(16);
      wire.encodeSimpleReply(reply, 0, 0, 0, request.cookieLow);
      channel.send(reply);
    }
    connection.destroy();
  });
  const timers = new ManualTimers();
  const client = await connectNbd({ address, exportName: "" }, { net, timers });
  await body(client, seen);
  await client.close();
}

test("a server without flush, fua, trim and zero is made do with", async () => {
  await withNotes(handshake.transmissionFlag.hasFlags, async (client, seen) => {
    await client.write([new Uint8Array(9)], 0, { fua: true });
    await client.zero(0, 4096);
    await client.trim(0, 4096);
    await client.flush();
    await client.cache(0, 1);
    await assert.rejects(async () => client.zero(0, 512, { fast: true }), { code: "unsupported" });
    const { write } = wire.command;
    assert.deepEqual(seen, [
      [write, 0],
      [write, 0],
    ]);
  });
});

test("what is to be durable is flushed where the server has no FUA, and nothing else is", async () => {
  const { hasFlags, sendFlush, sendTrim, sendWriteZeroes } = handshake.transmissionFlag;
  await withNotes(hasFlags | sendFlush | sendTrim | sendWriteZeroes, async (client, seen) => {
    const { write, trim, writeZeroes, flush } = wire.command;
    for (const fua of [true, false]) {
      await client.write([new Uint8Array(9)], 0, { fua });
      await client.trim(0, 4096, { fua });
      await client.zero(0, 4096, { fua });
    }
    const changes = [write, trim, writeZeroes];
    const flushed = changes.flatMap((command) => [command, flush]);
    assert.deepEqual(
      seen,
      [...flushed, ...changes].map((command) => [command, 0]),
    );
  });
});

test("something that is no NBD server is refused, one that says nothing is given up", async () => {
  const net = new MemoryNet();
  const timers = new ManualTimers();
  const web = { kind: "unix", path: "web" } as const;
  const mute = { kind: "unix", path: "mute" } as const;
  await net.listen(web, (connection) => {
    connection.start({ data() {}, drain() {}, close() {} });
    connection.write([Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")]);
  });
  await net.listen(mute, (connection) => connection.start({ data() {}, drain() {}, close() {} }));
  const toWeb = connectNbd({ address: web, exportName: "" }, { net, timers });
  await assert.rejects(toWeb, { code: "invalid", message: /not an NBD server/ });
  const toMute = connectNbd({ address: mute, exportName: "" }, { net, timers });
  await settle();
  timers.advance(30_000);
  await assert.rejects(toMute, { code: "io" });
});

test("coverage knows overlaps in any order", () => {
  const coverage = new Coverage();
  assert.ok(coverage.add(10, 20));
  assert.ok(coverage.add(30, 40));
  assert.ok(coverage.add(20, 25));
  assert.ok(coverage.add(0, 10));
  for (const [start, end] of [
    [0, 1],
    [9, 11],
    [24, 26],
    [25, 31],
    [39, 50],
    [0, 100],
  ] as const) {
    assert.equal(coverage.add(start, end), false, `${start}-${end}`);
  }
  assert.ok(coverage.add(25, 30));
  assert.equal(coverage.bytes, 40);
});
