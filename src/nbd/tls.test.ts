import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import * as nodeNet from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as tls from "node:tls";
import { TestAuthority } from "../../test/support/certificates.ts";
import { ManualTimers } from "../../test/support/manual-timers.ts";
import { MemoryNet } from "../../test/support/memory-net.ts";
import { address as memoryAddress, RawClient, settle } from "../../test/support/raw-nbd.ts";
import { MemoryDevice } from "../block/memory-device.ts";
import { StaticExports } from "../block/static-exports.ts";
import { type Log, silentLog } from "../host/log.ts";
import type { Address, TlsContext } from "../host/net.ts";
import { createNodeHost } from "../host/node/node-host.ts";
import { connectNbd, listNbdExports } from "./client.ts";
import type { ServerTls } from "./handshake.ts";
import { createNbdServer, type NbdServer, type NbdServerSettings } from "./server.ts";
import { encodeInfoRequest, encodeOption, option, optionError } from "./wire-handshake.ts";

const host = createNodeHost({ logLevel: "silent" });
const diskBytes = 8 * 2 ** 20;
let directory = "";
let authority: TestAuthority;
let other: TestAuthority;
let serverContext: TlsContext;
let sockets = 0;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "kelpie-tls-"));
  authority = await TestAuthority.create();
  other = await TestAuthority.create("another authority");
  serverContext = host.net.tlsContext({
    authorities: authority.own.certificate,
    ...(await authority.server()),
  });
});
after(() => rm(directory, { recursive: true }));

interface Served extends AsyncDisposable {
  server: NbdServer;
  address: Address;
  path: string;
  device: MemoryDevice;
}

async function serve(
  tlsSettings: Partial<ServerTls> | undefined,
  settings: Partial<NbdServerSettings> & { log?: Log } = {},
): Promise<Served> {
  const { log = silentLog, ...limits } = settings;
  const path = join(directory, `${sockets++}.sock`);
  const address = { kind: "unix", path } as const;
  const device = new MemoryDevice(diskBytes);
  const exports = new StaticExports(new Map([["disk", { device }]]));
  const ours = { context: () => serverContext, required: true, verifyPeer: false, ...tlsSettings };
  const server = await createNbdServer(
    { addresses: [address], tls: tlsSettings === undefined ? undefined : ours, ...limits },
    { ...host, log, exports },
  );
  return { server, address, path, device, [Symbol.asyncDispose]: () => server.close() };
}

interface Trust {
  whom?: TestAuthority;
  as?: { certificate: string; key: string };
  hostName?: string;
}

function tlsOf({ whom = authority, as, hostName = "localhost" }: Trust = {}) {
  const context = host.net.tlsContext({ authorities: whom.own.certificate, ...as });
  return { context, hostName };
}

function connect({ address }: Served, trust?: Trust) {
  return connectNbd({ address, exportName: "disk", tls: tlsOf(trust) }, host);
}

test("what is written in TLS is read in TLS, in pieces of all sizes", async () => {
  await using served = await serve({});
  const client = await connect(served);
  const sizes = [1, 512, 4096, 65_536, 3 * 2 ** 20];
  let offset = 0;
  const writes: Promise<unknown>[] = [];
  for (const [index, size] of sizes.entries()) {
    writes.push(Promise.resolve(client.write([Buffer.alloc(size, index + 1)], offset)));
    offset += size;
  }
  await Promise.all(writes);
  const target = Buffer.alloc(offset);
  await client.read(target, 0);
  let at = 0;
  for (const [index, size] of sizes.entries()) {
    assert.ok(
      target.subarray(at, at + size).every((byte) => byte === index + 1),
      `piece ${size}`,
    );
    at += size;
  }
  await client.close();
  await until(() => served.server.connections().length === 0);
});

test("exports are listed in TLS; in the clear nothing is, and the client is told what to do", async () => {
  await using served = await serve({});
  const { address } = served;
  const [listed] = await listNbdExports(address, { ...host, tls: tlsOf() });
  assert.equal(listed?.name, "disk");
  await assert.rejects(listNbdExports(address, host), { message: /in TLS only/ });
  await assert.rejects(connectNbd({ address, exportName: "disk" }, host), {
    message: /in TLS only/,
    remedy: /nbds:/,
  });
});

test("where TLS is offered both ways work", async () => {
  await using served = await serve({ required: false });
  await (await connect(served)).close();
  const plain = await connectNbd({ address: served.address, exportName: "disk" }, host);
  await plain.close();
});

test("a client that wants TLS does not go on without it", async () => {
  await using served = await serve(undefined);
  await assert.rejects(connect(served), { code: "unsupported", message: /no TLS/ });
  await until(() => served.server.connections().length === 0);
});

test("a client refuses a server of another authority, of another name, or whose time is over", async () => {
  await using served = await serve({});
  await assert.rejects(connect(served, { whom: other }), /not of an authority/);
  await assert.rejects(connect(served, { hostName: "elsewhere" }), /elsewhere/);
  await assert.rejects(connect(served, { hostName: "10.9.8.7" }), /10\.9\.8\.7/);
  await (await connect(served, { hostName: "127.0.0.1" })).close();
  const old = host.net.tlsContext({
    authorities: authority.own.certificate,
    ...(await authority.expired("server")),
  });
  await using late = await serve({ context: () => old });
  await assert.rejects(connect(late), /has expired/);
});

test("a server that verifies lets in who has a good certificate, and says why it refuses", async () => {
  const refused: string[] = [];
  const warn: Log["warn"] = (event, fields) => refused.push(`${event}: ${fields?.reason}`);
  await using served = await serve({ verifyPeer: true }, { log: { ...silentLog, warn } });
  const good = await connect(served, { as: await authority.client() });
  const target = Buffer.alloc(512);
  await good.read(target, 0);
  await good.close();
  for (const [as, reason] of [
    [undefined, /none was sent|certificate/],
    [await other.client(), /not of an authority/],
    [await authority.expired("client"), /has expired/],
    [await authority.server(), /another purpose/],
  ] as const) {
    // In TLS 1.3 a client is through before the server has looked at its certificate.
    await assert.rejects(connect(served, as === undefined ? {} : { as }));
    await until(() => refused.length > 0);
    assert.match(refused.splice(0).join(), reason);
  }
});

test("new certificates count from the next connection on; those that are there stay", async () => {
  let context = serverContext;
  await using served = await serve({ context: () => context });
  const before = await connect(served);
  context = host.net.tlsContext({
    authorities: other.own.certificate,
    ...(await other.server()),
  });
  await assert.rejects(connect(served), /not of an authority/);
  await (await connect(served, { whom: other })).close();
  await before.read(Buffer.alloc(512), 0);
  await before.close();
});

const info = encodeInfoRequest({ name: "disk", wanted: [] });
const startTls = encodeOption(option.startTls, new Uint8Array(0));

test("options sent in the clear behind STARTTLS are dropped, in the same packet or the next", async () => {
  for (const gapMs of [0, 1]) {
    await using served = await serve({});
    const socket = nodeNet.connect(served.path);
    await bytes(socket, 18);
    const injected = encodeOption(option.go, info);
    if (gapMs === 0) {
      socket.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), startTls, injected]));
    } else {
      socket.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), startTls, injected.subarray(0, 9)]));
    }
    await bytes(socket, 20);
    const secure = await secured(socket);
    // Were it not dropped, the reply to GO would come first.
    secure.write(encodeOption(option.list, new Uint8Array(0)));
    const reply = await bytes(secure, 20);
    assert.equal(reply.readUInt32BE(8), option.list);
    secure.destroy();
  }
});

test("what was agreed upon in the clear is forgotten", async () => {
  await using served = await serve({ required: false });
  const socket = nodeNet.connect(served.path);
  await bytes(socket, 18);
  socket.write(Buffer.from([0, 0, 0, 3]));
  socket.write(encodeOption(option.extendedHeaders, new Uint8Array(0)));
  await bytes(socket, 20);
  socket.write(startTls);
  await bytes(socket, 20);
  const secure = await secured(socket);
  // It would be refused if extended headers were still agreed upon.
  secure.write(encodeOption(option.structuredReply, new Uint8Array(0)));
  const reply = await bytes(secure, 20);
  assert.deepEqual([reply.readUInt32BE(8), reply.readUInt32BE(12)], [option.structuredReply, 1]);
  secure.write(startTls);
  const again = await bytes(secure, 20);
  assert.equal(again.readUInt32BE(12), optionError.invalid);
  secure.destroy();
});

test("in the clear every option but the way to TLS gets TLS_REQD, and EXPORT_NAME the end", async () => {
  const net = new MemoryNet();
  const exports = new StaticExports(new Map([["disk", { device: new MemoryDevice(diskBytes) }]]));
  const required = { context: () => serverContext, required: true, verifyPeer: false };
  const timers = new ManualTimers();
  const server = await createNbdServer(
    { addresses: [memoryAddress], tls: required },
    { net, timers, log: silentLog, exports },
  );
  const client = await RawClient.connect(net);
  await client.greet();
  for (const number of [option.list, option.info, option.go, option.structuredReply, 4711]) {
    assert.equal(await client.outcome(number, info), optionError.tlsRequired, `option ${number}`);
  }
  assert.equal(await client.outcome(option.startTls, info), optionError.invalid);
  client.channel.send(encodeOption(option.exportName, Buffer.from("disk")));
  await client.closed();
  const leaving = await RawClient.connect(net);
  await leaving.greet();
  assert.equal(await leaving.outcome(option.abort), 1);
  await settle();
  timers.advance(3_600_000);
  await server.close();
});

test("a TLS handshake that never ends is cut off by the limit for handshakes", async () => {
  await using served = await serve({}, { handshakeMs: 300 });
  const socket = nodeNet.connect(served.path);
  await bytes(socket, 18);
  socket.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), startTls]));
  await bytes(socket, 20);
  socket.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01])); // the begin of a hello
  await new Promise((resolve) => socket.once("close", resolve));
  await until(() => served.server.connections().length === 0);
});

test("what is no TLS where TLS must begin ends the connection", async () => {
  await using served = await serve({});
  const socket = nodeNet.connect(served.path);
  await bytes(socket, 18);
  socket.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), startTls]));
  await bytes(socket, 20);
  socket.on("error", () => {}); // it may be reset
  socket.write(encodeOption(option.go, info));
  await new Promise((resolve) => socket.once("close", resolve));
  await until(() => served.server.connections().length === 0);
});

test("what is no certificate, and the key of another one, is refused without showing it", async () => {
  const { certificate } = await authority.server();
  const { key } = await authority.server();
  const authorities = authority.own.certificate;
  const wrong = { authorities, certificate, key };
  assert.throws(() => host.net.tlsContext(wrong), { code: "invalid", message: /key/ });
  const none = { authorities, certificate: "x", key };
  assert.throws(
    () => host.net.tlsContext(none),
    (error: Error) => !error.message.includes(key.split("\n")[1] ?? ""),
  );
});

function secured(socket: nodeNet.Socket): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const secure = tls.connect({ socket, ca: authority.own.certificate, host: "localhost" });
    secure.once("error", reject);
    secure.once("secureConnect", () => resolve(secure));
  });
}

/** The next `count` bytes; what came behind them must not have come. */
function bytes(socket: nodeNet.Socket, count: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const data = (chunk: Buffer): void => {
      chunks.push(chunk);
      const all = Buffer.concat(chunks);
      if (all.length < count) return;
      socket.off("data", data);
      socket.pause();
      if (all.length > count) socket.unshift(all.subarray(count));
      resolve(all.subarray(0, count));
    };
    socket.on("data", data);
    socket.once("close", () => reject(new Error("the connection ended")));
    socket.resume();
  });
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
