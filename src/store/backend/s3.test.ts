import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FakeS3, type S3Fault } from "../../../test/support/fake-s3.ts";
import { isKelpieError } from "../../base/errors.ts";
import { createNodeHost } from "../../host/node/node-host.ts";
import { openS3ObjectStore } from "../../host/node/s3-object-store.ts";
import { S3Backend } from "./s3.ts";

const key = "catalog/0000000000000001";
const host = createNodeHost({ logLevel: "silent" });

interface World extends AsyncDisposable {
  server: FakeS3;
  backend: S3Backend;
}

async function start(settings: { giveUpMs?: number; timeoutMs?: number } = {}): Promise<World> {
  const server = await FakeS3.start();
  const { giveUpMs = 60_000, timeoutMs = 20_000 } = settings;
  const objects = openS3ObjectStore({
    bucket: server.bucket,
    prefix: "",
    endpoint: server.endpoint,
    region: "us-east-1",
    pathStyle: true,
    credentials: { accessKeyId: server.accessKey, secretAccessKey: "secret" },
    timeoutMs,
  });
  const backend = new S3Backend({ giveUpMs }, { ...host, objects });
  return {
    server,
    backend,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await backend.close();
    },
  };
}

/** What never comes is waited for in vain. */
function patienceFor(fault: S3Fault): { timeoutMs?: number } {
  return fault.startsWith("stall") ? { timeoutMs: 400 } : {};
}

describe("an S3 backend", () => {
  const faults: S3Fault[] = [
    "refuse 500",
    "refuse 503, Retry-After",
    "lose the request",
    "lose the answer",
    "do it, answer 409",
    "stall",
  ];
  for (const fault of faults) {
    it(`creates a key once when the server does this: ${fault}`, async () => {
      await using world = await start(patienceFor(fault));
      const { server, backend } = world;
      server.fail(fault, { method: "PUT" });
      assert.equal(await backend.putIfAbsent(key, [text("mine")]), "created");
      assert.deepEqual(await backend.get(key), text("mine"));
      assert.equal(await backend.putIfAbsent(key, [text("other")]), "exists");
    });
  }

  it("says exists when somebody else's put came in between", async () => {
    await using world = await start();
    const { server, backend } = world;
    server.fail("lose the request", { method: "PUT" });
    server.objects.set(key, { bytes: Buffer.from("theirs"), metadata: {} });
    assert.equal(await backend.putIfAbsent(key, [text("mine")]), "exists");
    assert.deepEqual(await backend.get(key), text("theirs"));
  });

  for (const fault of [
    "cut the body",
    "stall the body",
    "refuse 500",
    "lose the answer",
  ] as const) {
    it(`gives the whole object when the server does this: ${fault}`, async () => {
      await using world = await start(patienceFor(fault));
      const { server, backend } = world;
      const content = Buffer.alloc(300_000, "kelpie");
      await backend.putIfAbsent(key, [content]);
      server.fail(fault, { method: "GET", times: 2 });
      assert.deepEqual(Buffer.from(await backend.get(key)), content);
      assert.equal(server.count("GET", key), 3);
    });
  }

  it("gives up after a while: a read fails, and of a put it is not known", async () => {
    await using world = await start({ giveUpMs: 300, timeoutMs: 100 });
    const { server, backend } = world;
    await backend.putIfAbsent(key, [text("here")]);
    await server.stop();
    await fails("io", backend.get(key));
    assert.equal(await backend.putIfAbsent("catalog/02", [text("x")]), "unknown");
  });

  it("does not repeat what is refused for good", async () => {
    await using world = await start();
    const { server, backend } = world;
    await backend.putIfAbsent(key, [text("short")]);
    await fails("io", backend.get(key, { offset: 10, length: 5 }));
    assert.equal(server.count("GET", key), 1);
  });

  it("goes on when the server comes back", async () => {
    await using world = await start();
    const { server, backend } = world;
    const port = Number(new URL(server.endpoint).port);
    await backend.putIfAbsent(key, [text("kept")]);
    await server.stop();
    const reading = backend.get(key);
    const putting = backend.putIfAbsent("catalog/02", [text("x")]);
    await host.timers.sleep(200);
    await server.listen(port);
    assert.deepEqual(await reading, text("kept"));
    assert.equal(await putting, "created");
  });

  it("removes many keys with one request", async () => {
    await using world = await start();
    const { server, backend } = world;
    const keys = Array.from({ length: 50 }, (_, index) => `tails/${index + 10}`);
    for (const each of keys) await backend.putIfAbsent(each, []);
    await backend.deleteAll(keys);
    assert.equal(server.objects.size, 0);
    assert.equal(server.count("DELETE"), 1);
  });
});

async function fails(code: string, action: Promise<unknown>): Promise<void> {
  await assert.rejects(action, (error: unknown) => isKelpieError(error) && error.code === code);
}

function text(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}
