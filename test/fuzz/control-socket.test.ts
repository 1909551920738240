import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import type { SeededRandom } from "../../sim/random.ts";
import { type CallName, type Control, calls } from "../../src/control/calls.ts";
import { silentLog } from "../../src/host/log.ts";
import { createNodeTimers } from "../../src/host/node/timers.ts";
import { connectControl } from "../../src/http/control-client.ts";
import { type ControlServer, openControlServer } from "../../src/http/control-server.ts";
import { FakeStore } from "../support/fake-control.ts";
import { fuzz } from "./fuzz.ts";
import { pick } from "./generated-requests.ts";
import { mutate } from "./mutate.ts";

const directory = mkdtempSync(join(tmpdir(), "kelpie-fuzz-"));
const socketPath = join(directory, "control.sock");
let server: ControlServer | undefined;
after(async () => {
  await server?.close();
  rmSync(directory, { recursive: true });
});

const info = { version: "1", pid: 7, store: "/s", startedMs: 0, nbd: [] };

/** What a client sends, from its method to its body. */
function requestOf(call: string, body: string): Buffer {
  const length = Buffer.byteLength(body);
  const head = ["Host: x", "Content-Type: application/json", `Content-Length: ${length}`];
  return Buffer.from(`POST /v1/${call} HTTP/1.1\r\n${head.join("\r\n")}\r\n\r\n${body}`);
}

const bodies = [
  "{}",
  '{"name":"disk","sizeBytes":1048576}',
  '{"names":["disk"],"tag":"t"}',
  '{"name":"disk","snapshot":"1"}',
  `{"name":"${"x".repeat(300)}"}`,
  "[[[[[[[[[[[[",
];
const requests = bodies.map((body) => requestOf("vdi.create", body));
const bodyDonors = bodies.map((body) => Buffer.from(body));

/** Half of them are right up to their body. */
function randomRequest(random: SeededRandom): Buffer {
  if (random.below(2) === 0) return mutate(pick(random, requests), random, requests);
  const call = pick(random, Object.keys(calls));
  return requestOf(call, mutate(pick(random, bodyDonors), random, bodyDonors).toString());
}

/** Everything the server says until it closes, which it must. */
function say(bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve) => {
    const heard: Buffer[] = [];
    const socket = connect(socketPath, () => socket.end(bytes));
    socket.on("data", (chunk: Buffer) => heard.push(chunk));
    socket.on("error", () => {}); // closed before all was sent
    socket.on("close", () => resolve(Buffer.concat(heard)));
  });
}

async function start(): Promise<ControlServer> {
  const store = new FakeStore();
  const control = {
    async call(name: CallName, input: never, context: never) {
      assert.ok(calls[name].input.safeParse(input).success, "only what its schema allows");
      return name === "server.info" ? info : store.control.call(name, input, context);
    },
  } as Control;
  const log = {
    ...silentLog,
    error: (event: string, fields: unknown) => assert.fail(`${event}: ${JSON.stringify(fields)}`),
  };
  return openControlServer(
    { socketPath },
    { control, log, timers: createNodeTimers(), version: "1" },
  );
}

fuzz("the control socket and requests with changes", { runs: 500 }, async (random, tally) => {
  server ??= await start();
  const heard = (await say(randomRequest(random))).toString("latin1");
  const status = /^HTTP\/1\.1 (\d{3})/.exec(heard)?.[1];
  assert.ok(status !== undefined || heard === "", `not an answer: ${heard.slice(0, 99)}`);
  tally(status === undefined ? "closed" : `answered ${status.slice(0, 1)}xx`);
  assert.ok(status !== "500", heard);
  assert.ok(heard.length < 2 ** 17);
  if (random.below(50) === 0) {
    const running = await connectControl(socketPath);
    assert.ok(Array.isArray(await running?.control.call("vdi.list", {})), "others are served");
  }
});
