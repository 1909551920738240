import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import * as nodeNet from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { isKelpieError } from "../../base/errors.ts";
import { silentLog } from "../log.ts";
import type { Address, Connection, Listener } from "../net.ts";
import { queuedBytesMax } from "./connection.ts";
import { createNodeNet } from "./net.ts";

const net = createNodeNet({ log: silentLog });
const loopback: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };
let directory = "";
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "kelpie-net-"));
});
after(() => rm(directory, { recursive: true, force: true }));

describe("listening", () => {
  it("replaces port 0 by the port it got, and says busy for a port in use", async () => {
    const listener = await net.listen(loopback, () => {});
    const { address } = listener;
    assert.ok(address.kind === "tcp" && address.port > 0);
    await fails(
      "busy",
      net.listen(address, () => {}),
      `127.0.0.1:${address.port}`,
    );
    await listener.close();
    await (await net.listen(address, () => {})).close();
  });

  it("replaces the socket file of a process that was killed", async () => {
    const path = join(directory, "stale.sock");
    await listenInAnotherProcess(path, (child) => child.kill("SIGKILL"));
    assert.ok(existsSync(path), "the killed process left its socket");
    await fails("not-found", net.connect({ kind: "unix", path }), path);
    const listener = await net.listen({ kind: "unix", path }, (connection) => connection.end());
    const client = collect(await net.connect({ kind: "unix", path }));
    await client.closed;
    await listener.close();
  });

  it("says busy for a socket somebody listens on, and leaves it alone", async () => {
    const path = join(directory, "used.sock");
    const listener = await net.listen({ kind: "unix", path }, (connection) => {
      connection.start({ data() {}, drain() {}, close() {} });
      connection.write([text("still here")]);
      connection.end();
    });
    await fails(
      "busy",
      net.listen({ kind: "unix", path }, () => {}),
      path,
    );
    const client = collect(await net.connect({ kind: "unix", path }));
    await client.closed;
    assert.equal(client.received(), "still here");
    await listener.close();
  });

  it("never removes a file that is not a socket", async () => {
    const path = join(directory, "precious");
    writeFileSync(path, "data");
    await fails(
      "exists",
      net.listen({ kind: "unix", path }, () => {}),
      path,
    );
    assert.equal(await readFile(path, "utf8"), "data");
  });

  it("names the directory that is not there, and refuses a path that is too long", async () => {
    const missing = join(directory, "none", "s.sock");
    await fails(
      "not-found",
      net.listen({ kind: "unix", path: missing }, () => {}),
      "none",
    );
    const long = join(directory, "x".repeat(120));
    await fails(
      "invalid",
      net.listen({ kind: "unix", path: long }, () => {}),
      "107 bytes",
    );
  });

  it("removes the socket file when it ends, and leaves connections as they are", async () => {
    const path = join(directory, "closing.sock");
    const { client, server, listener } = await pair({ kind: "unix", path });
    await listener.close();
    assert.equal(existsSync(path), false);
    await fails("not-found", net.connect({ kind: "unix", path }));
    client.connection.write([text("still works")]);
    await until(() => server.received() === "still works");
    client.connection.end();
    await Promise.all([client.closed, server.closed]);
  });
});

for (const kind of ["tcp", "unix"] as const) {
  let sockets = 0;
  const address = (): Address => {
    sockets += 1;
    return kind === "tcp" ? loopback : { kind, path: join(directory, `c${sockets}.sock`) };
  };

  describe(`a ${kind} connection`, () => {
    it("names its peer and carries bytes both ways", async () => {
      const { client, server, close } = await pair(address());
      assert.match(server.connection.peer, kind === "tcp" ? /^127\.0\.0\.1:\d+$/ : /^unix$/);
      client.connection.write([text("hello "), text(""), text("server")]);
      server.connection.write([text("hello client")]);
      await until(() => server.received() === "hello server");
      await until(() => client.received() === "hello client");
      client.connection.destroy();
      await close();
    });

    it("calls no handler before it is started, and then misses nothing", async () => {
      const accepted = Promise.withResolvers<Connection>();
      const listener = await net.listen(address(), accepted.resolve);
      const client = collect(await net.connect(listener.address));
      client.connection.write([text("early")]);
      client.connection.end();
      const connection = await accepted.promise;
      await pause(30);
      const server = collect(connection);
      await server.closed;
      assert.equal(server.received(), "early");
      await client.closed;
      await listener.close();
    });

    it("says false above its limit, counts what is queued, and drains", async () => {
      const { client, server, close } = await pair(address());
      server.connection.pause();
      const chunk = new Uint8Array(2 ** 20);
      let written = 0;
      while (client.connection.write([chunk])) {
        written += chunk.byteLength;
        assert.ok(written < 4 * queuedBytesMax, "write never said false");
        await pause(1);
      }
      assert.ok(client.connection.queuedBytes > queuedBytesMax);
      assert.equal(client.drains(), 0);
      server.connection.resume();
      await until(() => client.drains() === 1);
      assert.ok(client.connection.queuedBytes <= queuedBytesMax);
      client.connection.destroy();
      await close();
    });

    it("sends everything that is queued before it ends", async () => {
      const { client, server, close } = await pair(address());
      const chunks = Array.from({ length: 3_000 }, () => new Uint8Array(1_000));
      client.connection.write(chunks);
      client.connection.end();
      await Promise.all([client.closed, server.closed]);
      assert.equal(server.receivedBytes(), 3_000_000);
      assert.equal(client.connection.write([text("late")]), false);
      await close();
    });

    it("gathers what is written while it is corked", async () => {
      const { client, server, close } = await pair(address());
      client.connection.cork();
      client.connection.write([text("a")]);
      client.connection.write([text("b"), text("c")]);
      await pause(30);
      assert.equal(server.received(), "");
      assert.equal(client.connection.queuedBytes, 3);
      client.connection.uncork();
      await until(() => server.received() === "abc");
      assert.equal(server.chunks(), 1);
      client.connection.destroy();
      await close();
    });

    it("gives no data while it is paused", async () => {
      const { client, server, close } = await pair(address());
      server.connection.pause();
      client.connection.write([text("wait")]);
      await pause(30);
      assert.equal(server.received(), "");
      server.connection.resume();
      await until(() => server.received() === "wait");
      client.connection.destroy();
      await close();
    });

    it("closes once, last, on both sides when one is destroyed", async () => {
      const { client, server, close } = await pair(address());
      client.connection.write([text("x")]);
      await until(() => server.received() === "x");
      server.connection.destroy();
      server.connection.destroy();
      await Promise.all([client.closed, server.closed]);
      await pause(20);
      assert.deepEqual([client.closes(), server.closes()], [1, 1]);
      await close();
    });

    it("survives a peer that has gone while it writes, and reports it in close only", async () => {
      const { client, server, close } = await pair(address());
      server.connection.destroy();
      for (let index = 0; index < 50; index += 1) {
        client.connection.write([new Uint8Array(100_000)]);
        await pause(1);
      }
      await client.closed;
      assert.equal(client.closes(), 1);
      await close();
    });
  });
}

describe("a connection whose peer does not close", () => {
  it("is closed some time after its end, and the peer has got everything", async () => {
    const accepted = Promise.withResolvers<Connection>();
    const listener = await net.listen(loopback, accepted.resolve);
    assert.ok(listener.address.kind === "tcp");
    const { port } = listener.address;
    const peer = nodeNet.connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    let received = "";
    peer.on("data", (chunk) => {
      received += String(chunk);
    });
    peer.on("error", () => {});
    const server = collect(await accepted.promise);
    server.connection.write([text("the last word")]);
    server.connection.end();
    await server.closed;
    assert.equal(received, "the last word");
    peer.destroy();
    await listener.close();
  });
});

describe("connecting", () => {
  it("says not-found where nobody listens", async () => {
    const listener = await net.listen(loopback, () => {});
    await listener.close();
    await fails("not-found", net.connect(listener.address), "nobody listens");
    await fails("not-found", net.connect({ kind: "unix", path: join(directory, "none") }), "none");
  });
});

async function pair(address: Address) {
  const accepted = Promise.withResolvers<Connection>();
  const listener: Listener = await net.listen(address, accepted.resolve);
  const client = collect(await net.connect(listener.address));
  const server = collect(await accepted.promise);
  const close = async (): Promise<void> => {
    await Promise.all([client.closed, server.closed]);
    await listener.close();
  };
  return { client, server, listener, close };
}

/** Starts a connection and keeps what its handlers are told. */
function collect(connection: Connection) {
  const received: Uint8Array[] = [];
  let drains = 0;
  let closes = 0;
  const { promise: closed, resolve } = Promise.withResolvers<Error | undefined>();
  const assertNotClosed = (): void => assert.equal(closes, 0, "nothing is called after close");
  connection.start({
    data: (chunk) => {
      assertNotClosed();
      received.push(chunk);
    },
    drain: () => {
      assertNotClosed();
      drains += 1;
    },
    close: (error) => {
      closes += 1;
      resolve(error);
    },
  });
  return {
    connection,
    closed,
    received: () => Buffer.concat(received).toString(),
    receivedBytes: () => received.reduce((sum, chunk) => sum + chunk.byteLength, 0),
    chunks: () => received.length,
    drains: () => drains,
    closes: () => closes,
  };
}

async function listenInAnotherProcess(
  path: string,
  then: (child: { kill(signal: "SIGKILL"): boolean }) => void,
): Promise<void> {
  const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => {
    process.stdout.write("listening");
  })`;
  const child = spawn(process.execPath, ["--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  then(child);
  await once(child, "exit");
}

async function fails(code: string, action: Promise<unknown>, named = ""): Promise<void> {
  await assert.rejects(action, (error: unknown) => {
    assert.ok(isKelpieError(error), String(error));
    assert.equal(error.code, code, error.message);
    assert.ok(error.message.includes(named), error.message);
    return true;
  });
}

/** Waits for something that must happen soon. */
async function until(condition: () => boolean): Promise<void> {
  for (let waitedMs = 0; !condition(); waitedMs += 2) {
    assert.ok(waitedMs < 5_000, "it did not happen in time");
    await pause(2);
  }
}

function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, durationMs);
  });
}

function text(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}
