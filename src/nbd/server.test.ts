import assert from "node:assert/strict";
import { test } from "node:test";
import { GatedDevice } from "../../test/support/gated-device.ts";
import { ManualTimers } from "../../test/support/manual-timers.ts";
import { MemoryNet } from "../../test/support/memory-net.ts";
import { address, errorIn, none, RawClient, serve, settle } from "../../test/support/raw-nbd.ts";
import { ByteBudget } from "../base/byte-budget.ts";
import { MemoryDevice } from "../block/memory-device.ts";
import { StaticExports } from "../block/static-exports.ts";
import { silentLog } from "../host/log.ts";
import { errno } from "./errno.ts";
import { handshakesMax } from "./limits.ts";
import { createNbdServer } from "./server.ts";
import {
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  option,
} from "./wire-handshake.ts";
import { command, commandFlag, encodeRequest, type HeaderStyle } from "./wire-transmission.ts";

const sizeBytes = 2 ** 24;
const { read, write, flush, trim, cache, writeZeroes, blockStatus, disconnect } = command;

test("a client that vanishes mid-request has its export closed once the device is done", async () => {
  const gate = new GatedDevice(new MemoryDevice(sizeBytes));
  const { connect, exports, server, stop } = await serve({ disk: gate.device });
  const client = await (await connect()).go("disk", "structured", ["base:allocation"]);
  client.send({ command: read, length: 4096 });
  client.send({ command: write }, new Uint8Array(512));
  client.send({ command: blockStatus, length: 4096 });
  client.channel.send(client.request({ command: write }, new Uint8Array(5000)).subarray(0, 3000));
  await settle();
  client.connection.destroy();
  await settle();
  assert.equal(gate.waiting.length, 3, "half a write is no write");
  assert.equal(exports.clients("disk").length, 1);
  assert.equal(server.connections()[0]?.requestsInFlight, 3);
  gate.release("read");
  gate.waiting.find(({ request }) => request.operation === "write")?.fail(new Error("gone"));
  await settle();
  assert.equal(exports.clients("disk").length, 1);
  gate.release("extents");
  await settle();
  assert.equal(exports.clients("disk").length, 0); // a second close would be logged as an error
  assert.deepEqual(server.connections(), []);
  await stop();
});

test("close lets requests finish, answers new ones with ESHUTDOWN, then ends", async () => {
  const gate = new GatedDevice(new MemoryDevice(sizeBytes));
  const { connect, exports, server, net } = await serve({ disk: gate.device });
  const client = await (await connect()).go("disk");
  const idle = await (await connect()).go("disk");
  const hesitant = await connect();
  await hesitant.greet();
  client.send({ command: write, cookieLow: 1 }, new Uint8Array(512));
  await settle();
  const closed = server.close();
  await idle.closed();
  await hesitant.closed();
  await assert.rejects(net.connect(address));
  client.send({ command: flush, cookieLow: 2 });
  client.send({ command: write, cookieLow: 3 }, new Uint8Array(5000));
  for (const cookie of [2, 3]) {
    const reply = await client.reply();
    assert.deepEqual([reply.cookieLow, reply.error], [cookie, errno.ESHUTDOWN]);
  }
  assert.equal(gate.waiting.length, 1);
  gate.releaseAll();
  const reply = await client.reply();
  assert.deepEqual([reply.cookieLow, reply.error], [1, 0]);
  await client.closed();
  await closed;
  assert.equal(exports.clients("disk").length, 0);
});

test("close cuts off connections after its time limit, but not the device", async () => {
  const gate = new GatedDevice(new MemoryDevice(sizeBytes));
  const { connect, exports, server, timers } = await serve({ disk: gate.device });
  const client = await (await connect()).go("disk");
  client.send({ command: write }, new Uint8Array(512));
  await settle();
  let done = false;
  const closed = server.close().then(() => {
    done = true;
  });
  await settle();
  timers.advance(5_000);
  await client.closed();
  await settle();
  assert.equal(done, false);
  gate.releaseAll();
  await closed;
  assert.equal(exports.clients("disk").length, 0);
  assert.equal(timers.pending, 0, "a timer was left behind");
});

test("connections lists who is there and what was agreed upon", async () => {
  const { connect, server, stop } = await serve({ disk: new MemoryDevice(sizeBytes) });
  await (await connect()).greet();
  const client = await (await connect()).go("", "extended", ["base:allocation"]);
  await client.errorOf({ command: flush });
  await client.errorOf({ command: 99 });
  const [first, second] = server.connections();
  assert.equal(first?.exportName, undefined);
  assert.deepEqual(second, {
    peer: "memory",
    exportName: "disk",
    readOnly: false,
    headers: "extended",
    contexts: ["base:allocation"],
    requests: 2,
    requestsInFlight: 0,
  });
  await stop();
});

test("connections that share a budget stop taking requests when it is used up, and go on", async () => {
  const gate = new GatedDevice(new MemoryDevice(sizeBytes));
  const budget = new ByteBudget(10_000);
  const { connect, stop } = await serve({ disk: gate.device }, { budget });
  const clients = [await (await connect()).go("disk"), await (await connect()).go("disk")];
  for (const client of clients) {
    for (let n = 0; n < 5; n++) client.send({ command: write }, new Uint8Array(4096));
  }
  await settle();
  // The first has three; the second, which came when it was used up, one.
  assert.equal(gate.waiting.length, 4);
  assert.equal(budget.used, 4 * 4096);
  for (let n = 0; n < 10; n++) {
    gate.releaseAll();
    await settle();
  }
  for (const client of clients) {
    for (let n = 0; n < 5; n++) assert.equal((await client.reply()).error, 0);
  }
  assert.equal(budget.used, 0);
  await stop();
});

test("a thousand handshakes that go nowhere are bounded, and keep nobody out", async () => {
  const { connect, server, stop } = await serve({ disk: new MemoryDevice(sizeBytes) });
  const idle: RawClient[] = [];
  for (let n = 0; n < 1000; n++) {
    idle.push(await connect());
    if (n % 3 === 0) await idle.at(-1)?.greet();
    if (n % 100 === 0) await settle();
  }
  const client = await (await connect()).go("disk");
  assert.equal(await client.errorOf({ command: flush }), 0);
  await settle();
  assert.equal(server.connections().length, handshakesMax);
  await idle[0]?.channel.closed;
  // Those that are through do not give way.
  for (let n = 0; n < handshakesMax; n++) await connect();
  assert.equal(await client.errorOf({ command: flush }), 0);
  await stop();
});

test("there are no more connections than the limit", async () => {
  const options = { server: { connectionsMax: 2 } };
  const { connect, stop } = await serve({ disk: new MemoryDevice(sizeBytes) }, options);
  const first = await (await connect()).go("disk");
  await (await connect()).go("disk");
  const third = await connect();
  await third.closed();
  first.connection.destroy();
  await settle();
  await (await connect()).go("disk");
  await stop();
});

test("listening is all or nothing", async () => {
  const net = new MemoryNet();
  const parts = {
    net,
    timers: new ManualTimers(),
    log: silentLog,
    exports: new StaticExports(new Map()),
  };
  const other = { kind: "unix", path: "taken" } as const;
  const taken = await createNbdServer({ addresses: [other] }, parts);
  const both = createNbdServer({ addresses: [address, other] }, parts);
  await assert.rejects(both, { code: "busy" });
  const again = await createNbdServer(
    { addresses: [address, { kind: "tcp", host: "127.0.0.1", port: 0 }] },
    parts,
  );
  assert.deepEqual(again.addresses[0], address);
  assert.notEqual((again.addresses[1] as { port: number }).port, 0);
  await Promise.all([taken.close(), again.close()]);
});

test("a client that never reads its replies costs bounded memory, and nobody else anything", async () => {
  const device = new MemoryDevice(2 ** 30);
  let asked = 0;
  const counting = Object.create(device, {
    read: {
      value: (target: Uint8Array, offset: number) => {
        asked += target.length;
        device.read(target, offset);
      },
    },
  }) as MemoryDevice;
  const { connect, server, stop } = await serve({ disk: counting });
  const greedy = await (await connect()).go("disk");
  await settle();
  greedy.connection.pause();
  const request = greedy.request({ command: read, length: 2 ** 20 });
  for (let count = 0; count < 2000; count++) greedy.channel.send(request);
  await settle();
  // What was handed to the connection, its own limit, and one batch of replies.
  assert.ok(asked <= 4 * 2 ** 20, `${asked} bytes were read for a client that does not listen`);
  const other = await (await connect()).go("disk");
  assert.equal(await other.errorOf({ command: read, length: 512 }), 0);
  greedy.connection.resume();
  for (let count = 0; count < 2000; count++) await greedy.reply(2 ** 20);
  assert.equal(server.connections()[0]?.requests, 2000);
  await stop();
});

test("what is in flight is bounded in number and in bytes, and goes on when there is room", async () => {
  for (const [limits, length, expected] of [
    [{ requestsInFlightMax: 10 }, 512, 10],
    [{ bytesInFlightMax: 2 ** 20 }, 2 ** 18, 4],
  ] as const) {
    const gate = new GatedDevice(new MemoryDevice(sizeBytes));
    const { connect, stop } = await serve({ disk: gate.device }, { server: limits });
    const client = await (await connect()).go("disk");
    for (const number of [read, write]) {
      const payload = number === write ? new Uint8Array(length) : none;
      for (let count = 0; count < 25; count++) client.send({ command: number, length }, payload);
    }
    await settle();
    for (let answered = 0; answered < 50; answered++) {
      assert.equal(gate.waiting.length, Math.min(expected, 50 - answered));
      const [first] = gate.waiting.splice(0, 1);
      first?.release();
      const { error } = await client.reply(first?.request.operation === "read" ? length : 0);
      assert.equal(error, 0);
      await settle();
    }
    await stop();
  }
});

/** Everything a client may say, as one recording: every option, every command. */
function recording(style: HeaderStyle): Uint8Array {
  const client = new RawClient(undefinedConnection());
  client.style = style;
  const meta = encodeMetaContextRequest({ name: "disk", queries: ["base:allocation"] });
  const info = encodeInfoRequest({ name: "disk", wanted: [1, 2, 3] });
  const styleOption = style === "extended" ? option.extendedHeaders : option.structuredReply;
  const options = [
    encodeOption(99, new Uint8Array(5)),
    encodeOption(option.list, none),
    encodeOption(option.startTls, none),
    ...(style === "simple" ? [] : [encodeOption(styleOption, none)]),
    encodeOption(option.listMetaContext, meta),
    encodeOption(option.setMetaContext, meta),
    encodeOption(option.info, info),
    encodeOption(option.go, info),
  ];
  const requests = [
    client.request({ command: write, offset: 1000, cookieLow: 1 }, new Uint8Array(700).fill(1)),
    client.request({ command: read, offset: 900, length: 900, cookieLow: 2 }),
    client.request({ command: 77, cookieLow: 3 }),
    client.request({ command: trim, length: 4096, cookieLow: 4 }),
    client.request({ command: writeZeroes, offset: 1100, length: 10, cookieLow: 5 }),
    client.request({ command: cache, length: 4096, cookieLow: 6 }),
    client.request({ command: flush, flags: commandFlag.fua, cookieLow: 8 }),
    client.request({ command: write, offset: sizeBytes, cookieLow: 9 }, new Uint8Array(33)),
    client.request({ command: read, offset: 1000, length: 700, cookieLow: 10 }),
    // It takes longer than the others: anywhere else the order of the answers would depend on the cut.
    client.request({ command: blockStatus, length: 2 ** 20, cookieLow: 7 }),
    client.request({ command: disconnect }),
  ];
  return Buffer.concat([new Uint8Array([0, 0, 0, 3]), ...options, ...requests]);
}

/** A connection for a client that is only there to encode. */
function undefinedConnection() {
  return { start() {} } as never;
}

/** Feeds pieces to a fresh server, one after the other, and returns all that it said. */
async function feed(pieces: readonly Uint8Array[], thenVanish = false): Promise<Uint8Array> {
  const { net, exports, stop } = await serve({ disk: new MemoryDevice(sizeBytes) });
  const connection = await net.connect(address);
  const said: Uint8Array[] = [];
  const closed = new Promise<void>((resolve) => {
    connection.start({
      data: (chunk) => void said.push(chunk.slice()),
      drain() {},
      close: () => resolve(),
    });
  });
  for (const piece of pieces) {
    connection.write([piece]);
    await settle();
  }
  if (thenVanish) connection.destroy();
  await stop();
  await closed;
  assert.equal(exports.clients("disk").length, 0);
  return Buffer.concat(said);
}

for (const style of ["simple", "structured", "extended"] as const) {
  test(`${style}: a session is answered the same, wherever its bytes are cut`, async () => {
    const bytes = recording(style);
    const whole = await feed([bytes]);
    assert.ok(whole.length > 1600);
    for (let cut = 1; cut < bytes.length; cut++) {
      // Payloads and option data are alike in the middle.
      if (cut % 7 !== 0 && bytes[cut] === bytes[cut - 1] && bytes[cut] === bytes[cut + 1]) continue;
      const answer = await feed([bytes.subarray(0, cut), bytes.subarray(cut)]);
      assert.equal(Buffer.compare(answer, whole), 0, `cut at ${cut}`);
    }
    const single = Array.from({ length: bytes.length }, (_, at) => bytes.subarray(at, at + 1));
    assert.equal(
      Buffer.compare(await feed(single.slice(0, 400).concat(bytes.subarray(400))), whole),
      0,
    );
  });

  test(`${style}: a session that breaks off anywhere leaves nothing behind`, async () => {
    const bytes = recording(style);
    for (let cut = 0; cut < bytes.length; cut += 11) await feed([bytes.subarray(0, cut)], true);
  });

  test(`${style}: mutated sessions neither crash nor hang the server`, async () => {
    const bytes = recording(style);
    let state = 20_240_517;
    const random = (below: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let run = 0; run < 300; run++) {
      const mutated = bytes.slice();
      for (let count = 1 + random(4); count > 0; count--) {
        const values = [0, 1, 0x7f, 0x80, 0xff, random(256)];
        mutated[random(mutated.length)] = values[random(values.length)] ?? 0;
      }
      await feed([mutated.subarray(0, mutated.length - random(100))], run % 2 === 0);
    }
  });
}

test("pure noise after the greeting is survived", async () => {
  for (let run = 0; run < 50; run++) {
    const noise = Uint8Array.from(
      { length: 500 },
      (_, at) => Math.imul(at + 1, 2654435761 + run) >>> 13,
    );
    noise.set([0, 0, 0, 3]);
    await feed([noise], run % 2 === 0);
  }
});

test("requests that arrive in one chunk are answered in one write", async () => {
  const { net, connect, stop } = await serve({ disk: new MemoryDevice(sizeBytes) });
  assert.ok(net);
  const client = await (await connect()).go("disk");
  const requests = Array.from({ length: 20 }, (_, cookieLow) =>
    encodeRequest(
      { flags: 0, command: read, cookieHigh: 0, cookieLow, offset: 0, length: 4096 },
      false,
    ),
  );
  const before = client.chunksReceived;
  client.channel.send(Buffer.concat(requests));
  for (let count = 0; count < 20; count++) assert.equal(errorIn([await client.reply(4096)]), 0);
  assert.equal(client.chunksReceived - before, 1);
  await stop();
});
