import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import * as nodeNet from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as nodeTls from "node:tls";
import { TestAuthority } from "../../test/support/certificates.ts";
import { createNodeHost } from "./node/node-host.ts";
import { tlsListening } from "./tls-net.ts";

const host = createNodeHost({ logLevel: "silent" });
let directory = "";
let authority: TestAuthority;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "kelpie-tls-net-"));
  authority = await TestAuthority.create();
});
after(() => rm(directory, { recursive: true }));

/** A server that says everything again. */
async function echo(name: string, settings: { handshakeMs?: number; handshakesMax?: number } = {}) {
  const context = host.net.tlsContext({
    authorities: authority.own.certificate,
    ...(await authority.server()),
  });
  const limits = { handshakeMs: 30_000, handshakesMax: 8, ...settings };
  const net = tlsListening({ context: () => context, verifyPeer: true, ...limits }, host);
  const path = join(directory, name);
  const accepted = { count: 0 };
  const listener = await net.listen({ kind: "unix", path }, (connection) => {
    accepted.count++;
    connection.start({
      data(chunk) {
        connection.write([Buffer.from(chunk)]);
        connection.release(chunk, chunk.length);
      },
      drain() {},
      close() {},
    });
  });
  return { path, accepted, listener };
}

async function talk(path: string): Promise<string> {
  const { certificate, key } = await authority.client();
  const ca = authority.own.certificate;
  const socket = nodeTls.connect({ path, ca, cert: certificate, key, host: "localhost" });
  return await new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("data", (chunk: Buffer) => {
      resolve(chunk.toString());
      socket.end();
    });
    socket.write("hello");
  });
}

test("bytes arrive in the clear behind a TLS handshake", async () => {
  const { path, listener } = await echo("echo");
  assert.equal(await talk(path), "hello");
  await listener.close();
});

test("who says nothing is cut off, gives way to others, and is never accepted", async () => {
  const slow = await echo("slow", { handshakeMs: 200 });
  const socket = nodeNet.connect(slow.path);
  await new Promise((resolve) => socket.once("close", resolve));
  const few = await echo("few", { handshakesMax: 2 });
  const silent = Array.from({ length: 20 }, () => nodeNet.connect(few.path));
  const closed = silent.slice(0, 18).map((one) => new Promise((done) => one.once("close", done)));
  await Promise.all(closed);
  assert.equal(await talk(few.path), "hello");
  assert.equal(few.accepted.count, 1);
  await Promise.all([slow.listener.close(), few.listener.close()]);
  for (const one of silent) one.destroy();
});
