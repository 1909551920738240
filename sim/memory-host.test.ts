import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { isKelpieError } from "../src/base/errors.ts";
import type { Connection } from "../src/host/net.ts";
import { createMemoryHost } from "./memory-host.ts";

describe("time in a memory host", () => {
  it("stands still until it is advanced, and fires what falls due in order", async () => {
    const { clock, timers, time } = createMemoryHost({ seed: 1 });
    const fired: string[] = [];
    const note = (name: string) => () => fired.push(`${name}@${clock.monotonicMs()}`);
    timers.after(30, note("late"));
    timers.after(10, note("first"));
    timers.after(10, note("second"));
    const cancelled = timers.after(15, note("cancelled"));
    timers.after(20, () => {
      note("outer")();
      timers.after(5, note("inner"));
    });
    cancelled.cancel();
    const startMs = clock.nowMs();
    await time.advance(25);
    assert.deepEqual(fired, ["first@10", "second@10", "outer@20", "inner@25"]);
    assert.equal(clock.nowMs() - startMs, 25);
    await time.advance(5);
    assert.equal(fired.at(-1), "late@30");
  });

  it("lets a sleeper go on before later timers fire", async () => {
    const { timers, time } = createMemoryHost({ seed: 1 });
    const seen: string[] = [];
    const sleeper = (async () => {
      await timers.sleep(10);
      seen.push("slept");
      await timers.sleep(10);
      seen.push("slept again");
    })();
    timers.after(15, () => seen.push("timer"));
    await time.advance(100);
    await sleeper;
    assert.deepEqual(seen, ["slept", "timer", "slept again"]);
    await timers.sleep(0);
  });
});

describe("randomness in a memory host", () => {
  it("is the same for the same seed and another for another", () => {
    const bytes = (seed: number) => createMemoryHost({ seed }).random.bytes(32);
    assert.deepEqual(bytes(1), bytes(1));
    assert.notDeepEqual(bytes(1), bytes(2));
    const { random } = createMemoryHost({ seed: 3 });
    const counts = new Array<number>(10).fill(0);
    for (let draw = 0; draw < 10_000; draw += 1) {
      const value = random.below(10);
      counts[value] = (counts[value] ?? 0) + 1;
    }
    assert.ok(
      counts.every((count) => count > 800 && count < 1_200),
      `${counts}`,
    );
  });
});

describe("the network of a memory host", () => {
  it("carries bytes both ways, in order, and closes both sides", async () => {
    const { net } = createMemoryHost({ seed: 1 });
    const closed = Promise.withResolvers<void>();
    const listener = await net.listen({ kind: "tcp", host: "h", port: 0 }, (connection) => {
      connection.start({
        data: (chunk) => connection.write([text(`<${new TextDecoder().decode(chunk)}>`)]),
        drain: () => {},
        close: () => closed.resolve(),
      });
    });
    const client = collect(await net.connect(listener.address));
    client.connection.write([text("a"), text("b")]);
    client.connection.write([text("c")]);
    while (client.received() !== "<a><b><c>") await turn();
    client.connection.end();
    await Promise.all([client.closed, closed.promise]);
  });

  it("says false when too much is queued, and drains when the peer reads again", async () => {
    const { net } = createMemoryHost({ seed: 1 });
    const accepted = Promise.withResolvers<Connection>();
    await net.listen({ kind: "unix", path: "/s" }, accepted.resolve);
    const drained = Promise.withResolvers<void>();
    const client = await net.connect({ kind: "unix", path: "/s" });
    client.start({ data: () => {}, drain: drained.resolve, close: () => {} });
    assert.equal(client.write([new Uint8Array(60_000)]), true);
    assert.equal(client.write([new Uint8Array(60_000)]), false);
    assert.equal(client.queuedBytes, 120_000);
    let receivedBytes = 0;
    const server = await accepted.promise;
    server.start({
      data: (chunk) => {
        receivedBytes += chunk.byteLength;
      },
      drain: () => {},
      close: () => {},
    });
    await drained.promise;
    while (receivedBytes < 120_000) await turn();
    assert.equal(client.queuedBytes, 0);
  });

  it("sends what is queued before an end, and nothing of it after a destroy", async () => {
    const { net } = createMemoryHost({ seed: 1 });
    for (const how of ["end", "destroy"] as const) {
      const accepted = Promise.withResolvers<Connection>();
      await net.listen({ kind: "unix", path: `/${how}` }, accepted.resolve);
      const client = collect(await net.connect({ kind: "unix", path: `/${how}` }));
      client.connection.write([text("queued")]);
      client.connection[how]();
      const server = collect(await accepted.promise);
      await Promise.all([client.closed, server.closed]);
      assert.equal(server.received(), how === "end" ? "queued" : "");
    }
  });

  it("knows who listens", async () => {
    const { net } = createMemoryHost({ seed: 1 });
    const address = { kind: "unix", path: "/s" } as const;
    await fails("not-found", net.connect(address));
    const listener = await net.listen(address, () => {});
    await fails(
      "busy",
      net.listen(address, () => {}),
    );
    await listener.close();
    await fails("not-found", net.connect(address));
    await net.listen(address, () => {});
  });
});

function collect(connection: Connection) {
  let received = "";
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  connection.start({
    data: (chunk) => {
      received += new TextDecoder().decode(chunk);
    },
    drain: () => {},
    close: () => resolve(),
  });
  return { connection, closed, received: () => received };
}

async function fails(code: string, action: Promise<unknown>): Promise<void> {
  await assert.rejects(action, (error: unknown) => isKelpieError(error) && error.code === code);
}

function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function text(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}
