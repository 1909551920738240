import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { FakeStore } from "../../test/support/fake-control.ts";
import type { CallContext, CallName, Control } from "../control/calls.ts";
import { ServerEvents } from "../control/server-events.ts";
import { silentLog } from "../host/log.ts";
import { createNodeTimers } from "../host/node/timers.ts";
import { bodyBytesMax } from "./app.ts";
import type { ConsoleFiles } from "./console.ts";
import { behindBytesMax, listenersMax } from "./event-stream.ts";
import { openTcpServer, type TcpServerSettings } from "./tcp-server.ts";

const token = "t".repeat(43);
const bearer = { authorization: `Bearer ${token}` };
const page: ConsoleFiles = new Map([
  [
    "/",
    { type: "text/html", bytes: Buffer.from("page"), gzipped: undefined, isNamedByContents: false },
  ],
]);

interface Extra {
  settings?: Partial<TcpServerSettings>;
  control?: Control;
  console?: ConsoleFiles;
}

async function serve(t: TestContext, extra: Extra = {}) {
  const store = new FakeStore();
  const events = new ServerEvents();
  const control = extra.control ?? store.control;
  const server = await openTcpServer(
    { host: "127.0.0.1", port: 0, token, ...extra.settings },
    {
      control,
      events,
      log: silentLog,
      timers: createNodeTimers(),
      version: "1",
      console: extra.console ?? page,
      metrics: { contentType: "text/plain", text: async () => "figures" },
    },
  );
  t.after(() => server.close());
  return { server, events, port: Number(new URL(server.url).port) };
}

interface Answer {
  status: number;
  headers: NodeJS.Dict<string | string[]>;
  body: string;
}

interface Ask {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

function ask(port: number, path: string, { method = "GET", headers = {}, body }: Ask = {}) {
  return new Promise<Answer>((done, fail) => {
    const options = { host: "127.0.0.1", port, path, method, headers, agent: false };
    const sent = request(options, async (response) => {
      let text = "";
      response.setEncoding("utf8");
      for await (const chunk of response) text += chunk;
      done({ status: response.statusCode ?? 0, headers: response.headers, body: text });
    });
    sent.on("error", fail);
    sent.end(body);
  });
}

const json = { "content-type": "application/json" };
const list = (headers: Record<string, string>): Ask => ({
  method: "POST",
  headers: { ...json, ...headers },
  body: "{}",
});

test("the API needs the token, and health does not", async (t) => {
  const { port } = await serve(t);
  assert.equal((await ask(port, "/v1/vdi.list", list(bearer))).body, "[]");
  const wrong = [{}, { authorization: "Bearer x" }, { authorization: `Basic ${token}` }];
  const almost = [{ authorization: `Bearer ${token}x` }, { cookie: `kelpie-${port}=${token}` }];
  for (const headers of [...wrong, ...almost] as Record<string, string>[]) {
    const { status, body, headers: answered } = await ask(port, "/v1/vdi.list", list(headers));
    assert.equal(status, 401, JSON.stringify(headers));
    assert.match(answered["www-authenticate"] as string, /^Bearer/);
    assert.match(JSON.parse(body).remedy, /file `token`/);
  }
  for (const path of ["/metrics", "/v1/openapi.json", "/v1/events", "/v1/nothing", "/nothing"]) {
    assert.equal((await ask(port, path)).status, 401, path);
  }
  assert.deepEqual((await ask(port, "/healthz")).body, "ok\n");
  assert.deepEqual((await ask(port, "/readyz")).body, "ready\n");
  assert.deepEqual((await ask(port, "/")).body, "page");
  assert.equal((await ask(port, "/metrics", { headers: bearer })).body, "figures");
});

test("a browser trades the token for a cookie that no script sees", async (t) => {
  const { port } = await serve(t);
  const refused = await ask(port, "/v1/session", { method: "POST" });
  assert.equal(refused.status, 401);
  assert.equal(refused.headers["set-cookie"], undefined);
  const begun = await ask(port, "/v1/session", { method: "POST", headers: bearer });
  assert.equal(begun.status, 204);
  const [set = ""] = begun.headers["set-cookie"] as string[];
  assert.match(set, /; HttpOnly; SameSite=Strict/);
  assert.ok(!set.includes(token), "the cookie is not the token");
  const cookie = set.split(";")[0] as string;
  assert.equal((await ask(port, "/v1/vdi.list", list({ cookie: `a=b; ${cookie}` }))).body, "[]");
  const ended = await ask(port, "/v1/session", { method: "DELETE", headers: { cookie } });
  assert.match((ended.headers["set-cookie"] as string[])[0] as string, /Max-Age=0/);
});

test("a name that leads here is not ours, an address is", async (t) => {
  const { port } = await serve(t);
  const asHost = (host: string) => ask(port, "/v1/vdi.list", list({ ...bearer, host }));
  for (const host of [
    `127.0.0.1:${port}`,
    "localhost",
    "localhost:8080",
    "[::1]:7080",
    "10.0.0.7",
  ]) {
    assert.equal((await asHost(host)).status, 200, host);
  }
  for (const host of [
    "evil.example",
    `evil.example:${port}`,
    "127.0.0.1.evil.example",
    "a@localhost",
  ]) {
    const { status, body } = await asHost(host);
    assert.equal(status, 421, host);
    assert.match(JSON.parse(body).remedy, /localhost/);
  }
  assert.equal((await ask(port, "/healthz", { headers: { host: "evil.example" } })).status, 421);
});

test("pages of other origins are refused, whatever they know", async (t) => {
  const { port } = await serve(t);
  const own = `http://127.0.0.1:${port}`;
  const from = (headers: Record<string, string>) =>
    ask(port, "/v1/vdi.list", list({ ...bearer, ...headers }));
  assert.equal((await from({ origin: own })).status, 200);
  assert.equal((await from({ "sec-fetch-site": "same-origin" })).status, 200);
  const foreign = ["http://evil.example", "null", `http://localhost:${port}`, "http://127.0.0.1:1"];
  for (const origin of foreign) assert.equal((await from({ origin })).status, 403, origin);
  // Another port of this machine is the same site to a browser, and would have the cookie sent.
  for (const site of ["cross-site", "same-site"]) {
    assert.equal((await from({ "sec-fetch-site": site })).status, 403, site);
    const image = { "sec-fetch-site": site, "sec-fetch-mode": "no-cors" };
    assert.equal((await ask(port, "/", { headers: image })).status, 403);
    const link = { "sec-fetch-site": site, "sec-fetch-mode": "navigate" };
    assert.equal((await ask(port, "/", { headers: link })).status, 200, "a link to the page");
    assert.equal((await ask(port, "/metrics", { headers: { ...bearer, ...link } })).status, 403);
  }
});

test("bodies that are too large, or no JSON, are refused with a problem document", async (t) => {
  const { port } = await serve(t);
  const post = (body: string, type = "application/json") =>
    ask(port, "/v1/vdi.create", {
      method: "POST",
      headers: { ...bearer, "content-type": type },
      body,
    });
  const examples: [string, number, string?][] = [
    ["{", 400],
    ["[]", 400],
    ['"x"', 400],
    ['{"name":"d","sizeBytes":"1"}', 400],
    ['{"__proto__":{"name":"d"},"sizeBytes":1}', 400],
    ["[".repeat(100_000), 400],
    ["name=d", 415, "application/x-www-form-urlencoded"],
    ['{"name":"d","sizeBytes":1048576}', 400, "text/plain"],
    [JSON.stringify({ name: "x".repeat(bodyBytesMax), sizeBytes: 1 }), 413],
  ];
  for (const [body, status, type] of examples) {
    const answer = await post(body, type);
    assert.equal(answer.status, status, `${body.slice(0, 40)}: ${answer.body}`);
    assert.match(answer.headers["content-type"] as string, /^application\/problem\+json/);
  }
  assert.equal((await ask(port, "/v1/vdi.list", list(bearer))).body, "[]", "nothing was made");
});

test("every answer tells browsers to keep it to themselves", async (t) => {
  const { port } = await serve(t);
  const { headers } = await ask(port, "/");
  assert.match(
    headers["content-security-policy"] as string,
    /default-src 'none'.*script-src 'self'/,
  );
  for (const path of ["/", "/healthz", "/v1/vdi.list"]) {
    const answer = await ask(port, path);
    assert.equal(answer.headers["x-content-type-options"], "nosniff", path);
    assert.equal(answer.headers["cross-origin-resource-policy"], "same-origin", path);
    assert.equal(answer.headers["access-control-allow-origin"], undefined, path);
  }
});

test("without a built page, it says how to build one", async (t) => {
  const { port } = await serve(t, { console: new Map() });
  assert.equal((await ask(port, "/", { headers: bearer })).status, 404);
});

interface Idle {
  socket: Socket;
  closed: Promise<unknown>;
}

/** Connections that are open and say nothing; resolves when all are up or turned away. */
async function idleConnections(port: number, count: number): Promise<Idle[]> {
  const idle = Array.from({ length: count }, () => {
    const socket = connect(port, "127.0.0.1").resume();
    socket.on("error", () => {});
    return { socket, closed: once(socket, "close"), up: once(socket, "connect") };
  });
  await Promise.all(idle.map(({ closed, up }) => Promise.race([closed, up.catch(() => {})])));
  return idle;
}

test("a thousand idle connections are held to a limit, and closed in time", async (t) => {
  const { port } = await serve(t, { settings: { connectionsMax: 200, headersMs: 1500 } });
  const idle = await idleConnections(port, 1000);
  t.after(() => {
    for (const { socket } of idle) socket.destroy();
  });
  // Those beyond the limit are turned away at once; the others when they have said nothing for long.
  await Promise.all(idle.map(({ closed }) => closed));
  assert.equal((await ask(port, "/healthz")).body, "ok\n", "and then others are served");
});

test("a listener that does not read is cut off, and its memory with it", async (t) => {
  const { port, events } = await serve(t);
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  const head = `GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\n\r\n`;
  socket.write(head);
  await once(socket, "data");
  socket.pause();
  assert.equal(events.listeners, 1);
  const name = "n".repeat(8000);
  let told = 0;
  // What the system buffers for the socket comes on top of what we do.
  while (events.listeners > 0 && told < 64 * 2 ** 20) {
    events.change({ atMs: 1, what: "create", name, detail: "" });
    told += name.length;
    await new Promise((done) => setImmediate(done));
  }
  assert.equal(events.listeners, 0, `cut off after ${told} bytes`);
  assert.ok(told > behindBytesMax);
});

test("a reader of a long answer that stops reading is cut off", async (t) => {
  const lines = { lines: Array.from({ length: 20_000 }, () => "x".repeat(1000)) };
  const control = { call: async () => lines } as unknown as Control;
  const { port } = await serve(t, { control, settings: { stalledMs: 500 } });
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  const closed = once(socket, "close");
  const body = '{"key":"logs/"}';
  socket.write(
    `POST /v1/store.inspect HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  await once(socket, "readable");
  await new Promise((done) => setTimeout(done, 1500));
  // Only now is it read: what had been sent, and then the end, long before all of it.
  let heard = 0;
  socket.on("data", (chunk: Buffer) => {
    heard += chunk.length;
  });
  await closed;
  assert.ok(heard < 20_000_000, `${heard} bytes came all the same`);
});

test("listeners are told of changes, and get those that they missed", async (t) => {
  const { port, events } = await serve(t);
  for (const name of ["a", "b"]) events.change({ atMs: 1, what: "create", name, detail: "" });
  const heard: string[] = [];
  const headers = { ...bearer, "last-event-id": "1" };
  const sent = request({ host: "127.0.0.1", port, path: "/v1/events", headers, agent: false });
  sent.end();
  const [response] = await once(sent, "response");
  assert.equal(response.headers["content-type"], "text/event-stream");
  response.setEncoding("utf8");
  const saw = new Promise<void>((done) => {
    response.on("data", (chunk: string) => {
      heard.push(chunk);
      if (heard.join("").includes('"name":"c"')) done();
    });
  });
  events.change({ atMs: 1, what: "create", name: "c", detail: "" });
  await saw;
  const names = [...heard.join("").matchAll(/"name":"(\w)"/g)].map(([, name]) => name);
  assert.deepEqual(names, ["b", "c"]);
  assert.match(heard.join(""), /^id: 3\nevent: change\ndata: \{/m);
  sent.destroy();
});

test("listeners are held to a limit", async (t) => {
  const { port } = await serve(t);
  const open = Array.from({ length: listenersMax }, async () => {
    const options = { host: "127.0.0.1", port, path: "/v1/events", headers: bearer, agent: false };
    const sent = request(options);
    sent.on("error", () => {});
    sent.end();
    await once(sent, "response");
    t.after(() => sent.destroy());
  });
  await Promise.all(open);
  const { status, body } = await ask(port, "/v1/events", { headers: bearer });
  assert.deepEqual([status, JSON.parse(body).code], [409, "busy"]);
});

test("closing ends listeners and work, waits for changes, and closes what is idle", async (t) => {
  const changing = Promise.withResolvers<void>();
  const working = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  t.after(() => finish.resolve());
  const control = {
    async call(name: CallName, _input: unknown, { signal }: CallContext = {}) {
      if (name === "vdi.purge") {
        changing.resolve();
        await finish.promise;
        return { purged: 2 };
      }
      working.resolve();
      return await new Promise((_done, fail) => {
        signal?.addEventListener("abort", () => fail(signal.reason));
      });
    },
  } as unknown as Control;
  const { port, server, events } = await serve(t, { control });
  const [idle] = await idleConnections(port, 1);
  const change = ask(port, "/v1/vdi.purge", list(bearer));
  const work = ask(port, "/v1/store.clean", list(bearer));
  const listening = ask(port, "/v1/events", { headers: bearer });
  await Promise.all([changing.promise, working.promise]);
  while (events.listeners === 0) await new Promise((done) => setTimeout(done, 5));
  const closing = server.close();
  assert.equal((await work).status, 503);
  assert.match((await listening).body, /^retry/);
  finish.resolve();
  assert.deepEqual(JSON.parse((await change).body), { purged: 2 });
  await Promise.all([closing, idle?.closed]);
});
