import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeQemu } from "../../test/support/fake-qemu.ts";
import { ManualTimers } from "../../test/support/manual-timers.ts";
import { MemoryNet } from "../../test/support/memory-net.ts";
import { isKelpieError } from "../base/errors.ts";
import { connectQmp, type QmpClient } from "./client.ts";
import { humanCommand, queryDrives, queryNodes, queryStatus } from "./commands.ts";
import { awaitJob, runJob, settleJobs } from "./jobs.ts";
import type { QmpEvent } from "./messages.ts";
import { messageBytesMax } from "./wire.ts";

const address = { kind: "unix", path: "/vm/qmp.sock" } as const;

interface World {
  qemu: FakeQemu;
  net: MemoryNet;
  timers: ManualTimers;
  client: QmpClient;
}

function parts(chunkBytesMax?: number) {
  const net = new MemoryNet(chunkBytesMax === undefined ? {} : { chunkBytesMax });
  return { qemu: new FakeQemu(), net, timers: new ManualTimers() };
}

async function connected(chunkBytesMax?: number): Promise<World> {
  const { qemu, net, timers } = parts(chunkBytesMax);
  await qemu.listen(net, address);
  const client = await connectQmp({ address, name: "vm1" }, { net, timers });
  return { qemu, net, timers, client };
}

/** Lets everything that needs no time happen. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

test("it greets, agrees on capabilities and knows the version", async () => {
  const { qemu, client } = await connected();
  assert.deepEqual(client.version, { major: 7, minor: 2, micro: 22 });
  assert.deepEqual(qemu.log, ["qmp_capabilities"]);
});

test("messages may come in pieces of any size", async () => {
  for (const chunkBytesMax of [1, 2, 7, 64]) {
    const { client } = await connected(chunkBytesMax);
    assert.deepEqual(await queryStatus(client), { state: "running", isRunning: true });
  }
});

test("answers that come in another order find their commands", async () => {
  const { qemu, client } = await connected();
  qemu.intercept = (command) => (command.startsWith("x-") ? "hang" : undefined);
  const [first, second] = [client.execute("x-a"), client.execute("x-b")];
  await settle();
  qemu.sendRaw('{"return": "b", "id": 3}\r\n{"return": "a", "id": 2}\n');
  assert.deepEqual(await Promise.all([first, second]), ["a", "b"]);
});

test("a multi-byte character may be cut anywhere", async () => {
  const { qemu, client } = await connected(1);
  qemu.intercept = () => "hang";
  const answer = client.execute("x");
  await settle();
  qemu.sendRaw('{"return": "grün 水", "id": 2}\n');
  assert.equal(await answer, "grün 水");
});

test("what QEMU refuses is an error with its words", async () => {
  const { qemu, client } = await connected();
  await assert.rejects(client.execute("no-such"), (error) => {
    assert.ok(isKelpieError(error, "unsupported"));
    assert.match(error.message, /vm1 has no command no-such/);
    return true;
  });
  qemu.intercept = () => new Error("not like that");
  await assert.rejects(client.execute("stop"), /vm1: stop: not like that/);
});

test("a command that is not answered in time fails, and its late answer is dropped", async () => {
  const { qemu, client, timers } = await connected();
  qemu.intercept = (command) => (command === "stop" ? "hang" : undefined);
  const answer = client.execute("stop", undefined, { timeoutMs: 1500 });
  await settle();
  timers.advance(1500);
  await assert.rejects(answer, (error) => {
    assert.ok(isKelpieError(error, "busy"));
    assert.match(error.message, /did not answer stop within 1.5 s/);
    return true;
  });
  qemu.sendRaw('{"return": {}, "id": 2}\n');
  assert.equal((await queryStatus(client)).isRunning, true);
  assert.equal(timers.pending, 0, "no timer is left");
});

test("a monitor that vanishes fails what waits and what comes after it, at once", async () => {
  const { qemu, client } = await connected();
  qemu.intercept = (command) => (command === "stop" ? "vanish" : undefined);
  const other = client.onEvent(() => {});
  await assert.rejects(client.execute("stop"), (error) => {
    assert.ok(isKelpieError(error, "closed"));
    assert.match(error.message, /vm1 went away, before it had answered stop/);
    return true;
  });
  await client.closed;
  await assert.rejects(client.execute("cont"), /went away/);
  other();
});

test("somebody who listens and does not greet is given up", async () => {
  const { qemu, net, timers } = parts();
  qemu.greeting = false;
  await qemu.listen(net, address);
  const connecting = connectQmp({ address, name: "vm1", greetingMs: 800 }, { net, timers });
  await settle();
  timers.advance(800);
  await assert.rejects(connecting, (error) => isKelpieError(error, "busy"));
});

test("nobody who listens is said with the VM's name", async () => {
  const { net, timers } = parts();
  const connecting = connectQmp({ address, name: "vm1" }, { net, timers });
  await assert.rejects(connecting, /the monitor of vm1 does not answer/);
});

test("what is no QMP, or has no end, ends the connection", async () => {
  const endless = "x".repeat(2 ** 20);
  const cases: [(qemu: FakeQemu) => void, RegExp][] = [
    [(qemu) => qemu.sendRaw("QEMU 7.2 monitor\n"), /not JSON/],
    [(qemu) => qemu.sendRaw("[1]\n"), /not an object/],
    [(qemu) => qemu.sendRaw('{"what": 1}\n'), /not understood/],
    [(qemu) => qemu.sendRaw('{"error": {"class": 3}}\n'), /not understood/],
    [
      (qemu) => {
        for (let sent = 0; sent <= messageBytesMax; sent += endless.length) qemu.sendRaw(endless);
      },
      /longer than/,
    ],
  ];
  for (const [send, message] of cases) {
    const { qemu, client } = await connected();
    qemu.intercept = () => "hang";
    const answer = client.execute("stop");
    await settle();
    send(qemu);
    await assert.rejects(answer, message);
    await assert.rejects(client.execute("cont"), message);
  }
});

test("more commands than anybody waits for are refused", async () => {
  const { qemu, client } = await connected();
  qemu.intercept = () => "hang";
  const all = Array.from({ length: 65 }, () => client.execute("stop"));
  await assert.rejects(all.pop() as Promise<unknown>, (error) => isKelpieError(error, "busy"));
  client.close();
  for (const one of all) await assert.rejects(one, /closed/);
});

test("events are told to who listens, until they do not", async () => {
  const { qemu, client } = await connected();
  const seen: QmpEvent[] = [];
  const forget = client.onEvent((event) => seen.push(event));
  qemu.sendEvent("STOP");
  qemu.sendEvent("BLOCK_IO_ERROR", { device: "d0" });
  await queryStatus(client);
  forget();
  qemu.sendEvent("RESUME");
  await queryStatus(client);
  assert.deepEqual(
    seen.map(({ name, data }) => [name, data]),
    [
      ["STOP", {}],
      ["BLOCK_IO_ERROR", { device: "d0" }],
    ],
  );
});

test("a job is awaited and dismissed, and its failure is thrown", async () => {
  const { qemu, client, timers } = await connected();
  qemu.nodes.set("m", { driver: "qcow2", file: "m", images: [] });
  const input = { tag: "a", vmstate: "m", devices: ["m"] };
  await runJob(client, { command: "snapshot-save", input, id: "k-1" }, { timers });
  assert.deepEqual(qemu.imagesOf("m"), ["a"]);
  const missing = { command: "snapshot-load", input: { ...input, tag: "b" }, id: "k-2" };
  await assert.rejects(runJob(client, missing, { timers }), /there is no state b/);
  assert.deepEqual(await client.execute("query-jobs"), []);
  await assert.rejects(awaitJob(client, "k-2", { timers }), /does not know a job k-2/);
});

test("a job that never ends is given up, and one of an earlier connection is settled", async () => {
  const { qemu, client, timers } = await connected();
  qemu.intercept = (command) => {
    if (command !== "query-jobs") return undefined;
    const running = { id: "k-9", type: "snapshot-save", status: "running" };
    qemu.sendRaw(`${JSON.stringify({ return: [running], id: 2 + queries++ })}\n`);
    return "hang";
  };
  let queries = 0;
  const waiting = awaitJob(client, "k-9", { timers }, 1000);
  for (let step = 0; step < 6; step++) {
    await settle();
    timers.advance(200);
  }
  await assert.rejects(waiting, /takes longer than 1000 ms/);
  qemu.intercept = () => undefined;
  qemu.nodes.set("m", { driver: "qcow2", file: "m", images: [] });
  const input = { tag: "x", vmstate: "m", devices: ["m"], "job-id": "k-10" };
  await client.execute("snapshot-load", input);
  await client.execute("snapshot-save", { ...input, "job-id": "other" });
  await settleJobs(client, "k-", { timers });
  const left = (await client.execute("query-jobs")) as { id: string }[];
  assert.deepEqual(
    left.map(({ id }) => id),
    ["other"],
  );
});

test("nodes and drives say what is needed of them", async () => {
  const { qemu, client } = await connected();
  const file = "nbd+unix:///disk1?socket=/s";
  qemu.nodes.set("d0", { driver: "nbd", file, isDrive: true });
  qemu.nodes.set("m", {
    driver: "qcow2",
    file: "m",
    images: [{ name: "a", memory: "xy", clockNs: 0 }],
  });
  const [drive] = await queryDrives(client);
  assert.equal(drive?.id, "/machine/d0");
  assert.deepEqual(drive?.node, {
    name: "d0",
    driver: "nbd",
    readOnly: false,
    file,
    savedStates: [],
  });
  const node = (await queryNodes(client)).find(({ name }) => name === "m");
  assert.deepEqual(node?.savedStates, [
    { name: "a", sizeBytes: 1002, takenMs: 1_790_000_000_000, clockNs: 1_500_000_000 },
  ]);
  assert.equal(await humanCommand(client, "info version"), "you said info version\n");
});

test("an answer of another shape is an error", async () => {
  const { qemu, client } = await connected();
  qemu.intercept = () => "hang";
  const status = queryStatus(client);
  await settle();
  qemu.sendRaw('{"return": {"status": 5}, "id": 2}\n');
  await assert.rejects(status, /answer to query-status is not understood/);
});
