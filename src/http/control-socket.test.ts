import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { createServer as createNetServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { FakeStore } from "../../test/support/fake-control.ts";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { CallName, Control, Progress } from "../control/calls.ts";
import { silentLog } from "../host/log.ts";
import { createNodeTimers } from "../host/node/timers.ts";
import { bodyBytesMax } from "./app.ts";
import { connectControl } from "./control-client.ts";
import { openControlServer } from "./control-server.ts";

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "kelpie-control-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const info = { version: "1", pid: 7, store: "/s", startedMs: 0, nbd: [], sheepdog: [], http: [] };

/** A control of the test's own handlers, behind a real socket. */
async function serve(
  t: TestContext,
  handler: (...args: Parameters<Control["call"]>) => unknown,
  socketPath = join(directory(t), "control.sock"),
) {
  const control = {
    call: async (name: CallName, input: object, context: object) =>
      name === "server.info" ? info : handler(name, input as never, context),
  } as Control;
  const timers = createNodeTimers();
  const components = { control, log: silentLog, timers, version: "1" };
  const server = await openControlServer({ socketPath }, components);
  t.after(() => server.close());
  const running = await connectControl(socketPath);
  assert.ok(running);
  return { server, control: running.control, socketPath };
}

interface RawAnswer {
  status: number;
  type: string;
  body: string;
}

function ask(
  socketPath: string,
  path: string,
  {
    body = "{}",
    method = "POST",
    headers = {},
  }: { body?: string; method?: string; headers?: object } = {},
): Promise<RawAnswer> {
  return new Promise((done, fail) => {
    const sent = request(
      { socketPath, path, method, headers: { "content-type": "application/json", ...headers } },
      async (response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk);
        done({
          status: response.statusCode ?? 0,
          type: response.headers["content-type"] ?? "",
          body: Buffer.concat(chunks).toString(),
        });
      },
    );
    sent.on("error", fail);
    sent.end(body);
  });
}

test("calls and their answers go through the socket unchanged", async (t) => {
  const store = new FakeStore();
  const { control } = await serve(t, (name, input, context) =>
    store.control.call(name, input, context),
  );
  const entry = await control.call("vdi.create", { name: "disk1", sizeBytes: 2 ** 20 });
  assert.equal(entry.name, "disk1");
  await control.call("vdi.snapshot", { names: ["disk1"], tag: "s" });
  assert.deepEqual(await control.call("vdi.list", {}), await store.control.call("vdi.list", {}));
});

test("only the owner may open the socket, and nothing else is left beside it", async (t) => {
  const path = directory(t);
  const { socketPath, server } = await serve(t, () => [], join(path, "control.sock"));
  const stat = statSync(socketPath);
  assert.ok(stat.isSocket());
  assert.equal(stat.mode & 0o777, 0o600);
  const { readdirSync } = await import("node:fs");
  assert.deepEqual(readdirSync(path), ["control.sock"]);
  await server.close();
  assert.deepEqual(readdirSync(path), []);
});

test("the socket of a server that was killed is replaced, and so is its half-made one", async (t) => {
  const path = directory(t);
  const stale = join(path, "control.sock");
  const killed = createNetServer().listen(stale);
  // As kill -9 leaves it: the file stays, nobody listens.
  const { renameSync } = await import("node:fs");
  renameSync(stale, `${stale}.kept`);
  await new Promise((done) => killed.close(done));
  renameSync(`${stale}.kept`, stale);
  mkdirSync(join(path, "control.tmp"));
  writeFileSync(join(path, "control.tmp", "s"), "");
  assert.equal(await connectControl(stale), undefined);
  const { control } = await serve(t, () => [], stale);
  assert.deepEqual(await control.call("vdi.list", {}), []);
});

test("a store too deep for a socket's path is served and found all the same", async (t) => {
  const deep = join(directory(t), "d".repeat(100), "e".repeat(100));
  mkdirSync(deep, { recursive: true });
  const socketPath = join(deep, "control.sock");
  assert.equal(await connectControl(socketPath), undefined);
  const { control, server } = await serve(t, () => [], socketPath);
  assert.deepEqual(await control.call("vdi.list", {}), []);
  await server.close();
  assert.equal(await connectControl(socketPath), undefined);
});

test("where no server is, there is none: no socket, no directory, a file in its place", async (t) => {
  const path = directory(t);
  assert.equal(await connectControl(join(path, "control.sock")), undefined);
  assert.equal(await connectControl(join(path, "no", "control.sock")), undefined);
  assert.equal(await connectControl(join(path, "x".repeat(120), "control.sock")), undefined);
  writeFileSync(join(path, "plain"), "");
  assert.equal(await connectControl(join(path, "plain")), undefined);
});

test("every error arrives with its code, message and remedy", async (t) => {
  const codes = [
    ["invalid", 400],
    ["not-found", 404],
    ["exists", 409],
    ["busy", 409],
    ["read-only", 403],
    ["no-space", 507],
    ["io", 500],
    ["corrupt", 500],
    ["unsupported", 501],
    ["closed", 503],
  ] as const;
  let next: KelpieError | TypeError = new TypeError("x");
  const { control, socketPath } = await serve(t, () => {
    throw next;
  });
  for (const [code, status] of codes) {
    next = new KelpieError(code, `it is ${code}`, { remedy: "do that" });
    await assert.rejects(control.call("vdi.list", {}), (error) => {
      assert.ok(isKelpieError(error, code));
      assert.equal(error.message, `it is ${code}`);
      assert.equal(error.remedy, "do that");
      return true;
    });
    const raw = await ask(socketPath, "/v1/vdi.list");
    assert.equal(raw.status, status);
    assert.match(raw.type, /^application\/problem\+json/);
    const document = JSON.parse(raw.body);
    assert.equal(document.status, status);
    assert.equal(document.type, "about:blank");
    assert.ok(document.title.length > 0);
  }
  next = new TypeError("our mistake");
  await assert.rejects(control.call("vdi.check", { name: "d" }), /internal error: our mistake/);
});

test("bad requests get a problem document that says what is wrong", async (t) => {
  const { socketPath } = await serve(t, () => []);
  const examples: [Parameters<typeof ask>[1], Parameters<typeof ask>[2], number, RegExp][] = [
    ["/v1/vdi.create", { body: '{"name":"d","sizeBytes":-1}' }, 400, /sizeBytes/],
    ["/v1/vdi.create", { body: '{"name":"","sizeBytes":1}' }, 400, /name/],
    ["/v1/vdi.create", { body: "{" }, 400, /JSON/],
    ["/v1/vdi.create", { body: "[]" }, 400, /vdi\.create/],
    ["/v1/vdi.nothing", {}, 404, /vdi\.nothing/],
    ["/v1/vdi.list", { method: "PUT" }, 404, /PUT/],
    ["/", { method: "GET", body: "" }, 404, /GET/],
    ["/v1/vdi.list", { headers: { "content-type": "text/xml" } }, 415, /vdi\.list/],
    ["/v1/vdi.list", { body: JSON.stringify({ name: "x".repeat(bodyBytesMax) }) }, 413, /large/],
  ];
  for (const [path, options, status, detail] of examples) {
    const answer = await ask(socketPath, path, options);
    assert.equal(answer.status, status, `${path} ${answer.body}`);
    assert.match(answer.type, /^application\/problem\+json/, path);
    assert.match(JSON.parse(answer.body).detail, detail);
  }
});

test("work reports its progress as it goes, and then its result or its error", async (t) => {
  const { control, socketPath } = await serve(t, async (name, _input, context) => {
    for (let done = 1; done <= 3; done++) {
      context?.progress?.({ doneBytes: done, totalBytes: 3 });
    }
    if (name === "vdi.check") throw new KelpieError("io", "no more");
    return { freedBytes: 1, usedBytes: 2, liveBytes: 3 };
  });
  const seen: Progress[] = [];
  const result = await control.call("store.clean", {}, { progress: (step) => seen.push(step) });
  assert.deepEqual(result, { freedBytes: 1, usedBytes: 2, liveBytes: 3 });
  assert.deepEqual(
    seen.map(({ doneBytes }) => doneBytes),
    [1, 2, 3],
  );
  await assert.rejects(control.call("vdi.check", { name: "d" }), (error) =>
    isKelpieError(error, "io"),
  );
  const plain = await ask(socketPath, "/v1/store.clean");
  assert.match(plain.type, /^application\/json/);
  assert.deepEqual(JSON.parse(plain.body), result);
});

for (const how of ["with progress", "without progress"]) {
  test(`work is given up when its client goes away, ${how}`, async (t) => {
    const begun = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<unknown>();
    const { socketPath } = await serve(t, async (_name, _input, context) => {
      begun.resolve();
      context?.signal?.addEventListener("abort", () => ended.resolve(context.signal?.reason));
      return await ended.promise;
    });
    const sent = request({
      socketPath,
      path: "/v1/store.check",
      method: "POST",
      headers: how === "with progress" ? { accept: "application/x-ndjson" } : {},
    });
    sent.on("error", () => {}); // It is we who break it.
    sent.end();
    await begun.promise;
    sent.destroy();
    assert.ok(isKelpieError(await ended.promise, "closed"));
  });
}

test("an interrupted client stops the work of the server", async (t) => {
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const { control } = await serve(t, async (_name, _input, context) => {
    context?.signal?.addEventListener("abort", () => ended.resolve());
    begun.resolve();
    await ended.promise;
    throw new KelpieError("closed", "given up");
  });
  const interrupt = new AbortController();
  const call = control.call("store.check", {}, { signal: interrupt.signal });
  await begun.promise;
  interrupt.abort();
  await assert.rejects(call, (error) => isKelpieError(error, "closed"));
  await ended.promise;
});

test("closing waits for a change that has begun, and stops work", async (t) => {
  const changing = Promise.withResolvers<void>();
  const working = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  const { control, server } = await serve(t, async (name, _input, context) => {
    if (name === "vdi.purge") {
      changing.resolve();
      await finish.promise;
      return { purged: 3 };
    }
    await new Promise<void>((_done, fail) => {
      context?.signal?.addEventListener("abort", () => fail(context.signal?.reason));
      working.resolve();
    });
    return null;
  });
  const change = control.call("vdi.purge", {});
  const work = assert.rejects(
    control.call("store.clean", {}),
    (error) => isKelpieError(error, "closed") && /shutting down/.test(error.message),
  );
  await Promise.all([changing.promise, working.promise]);
  let closed = false;
  const closing = server.close().then(() => {
    closed = true;
  });
  await work;
  assert.equal(closed, false);
  finish.resolve();
  assert.deepEqual(await change, { purged: 3 });
  await closing;
  await assert.rejects(control.call("vdi.list", {}), /no server listens/);
});

test("a peer that is no Kelpie server is an error, not an answer", async (t) => {
  const path = join(directory(t), "control.sock");
  const answers = ["hello", '{"version":1}', ""];
  const other = createServer((_request, response) => {
    const body = answers.shift();
    if (body === "") response.socket?.destroy();
    else response.end(body);
  }).listen(path);
  t.after(() => other.close());
  await assert.rejects(connectControl(path), /not JSON/);
  await assert.rejects(connectControl(path), /not understood/);
  await assert.rejects(connectControl(path), /went away/);
});
