import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeAgent } from "../../test/support/fake-agent.ts";
import { ManualTimers } from "../../test/support/manual-timers.ts";
import { MemoryNet } from "../../test/support/memory-net.ts";
import { isKelpieError } from "../base/errors.ts";
import { connectAgent, type GuestAgent } from "./agent.ts";
import { messageBytesMax } from "./wire.ts";

const address = { kind: "unix", path: "/vm/agent.sock" } as const;

interface World {
  fake: FakeAgent;
  timers: ManualTimers;
  agent: GuestAgent;
}

async function connected(
  options: { chunkBytesMax?: number; leftOver?: string } = {},
): Promise<World> {
  const { chunkBytesMax, leftOver } = options;
  const net = new MemoryNet(chunkBytesMax === undefined ? {} : { chunkBytesMax });
  const fake = new FakeAgent();
  fake.leftOver = leftOver;
  await fake.listen(net, address);
  const timers = new ManualTimers();
  const agent = await connectAgent({ address, name: "vm1" }, { net, timers });
  return { fake, timers, agent };
}

/** Lets everything that needs no time happen. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await Promise.resolve();
}

test("file systems are frozen and thawed, whatever pieces the answers come in", async () => {
  for (const chunkBytesMax of [1, 2, 7, 64]) {
    const { fake, agent } = await connected({ chunkBytesMax });
    await agent.sync();
    assert.equal(await agent.freeze(), 2);
    assert.ok(fake.isFrozen);
    assert.equal(await agent.thaw(), 2);
    assert.equal(await agent.thaw(), 0);
    agent.close();
  }
});

test("what the agent still had to say to somebody else is not taken for an answer", async () => {
  const sync = `\u00ff{"return": 99}\n`;
  for (const leftOver of ['{"return": 1}\n', '{"error": {"desc": "old"}}\n{"ret', sync, "\n\n"]) {
    const { agent } = await connected({ leftOver });
    await agent.sync();
    assert.equal(await agent.freeze(), 2, leftOver);
    agent.close();
  }
});

test("an agent that is silent is none", async () => {
  const { fake, agent, timers } = await connected();
  fake.intercept = () => "hang";
  const asked = assert.rejects(agent.sync(), (error) => {
    assert.ok(isKelpieError(error, "unsupported"));
    assert.match(error.remedy ?? "", /Does qemu-guest-agent run in the guest/);
    return true;
  });
  timers.advance(5000);
  await asked;
  assert.equal(timers.pending, 0);
  agent.close();
});

test("a freeze without an answer is given up, and a thaw waits behind it", async () => {
  const { fake, agent, timers } = await connected();
  fake.intercept = (command) => (command === "guest-fsfreeze-freeze" ? "slow" : undefined);
  const freezing = assert.rejects(agent.freeze(), /did not answer guest-fsfreeze-freeze in time/);
  await settle();
  timers.advance(30_000);
  await freezing;
  const thawing = agent.thaw();
  await settle();
  assert.ok(!fake.isFrozen);
  fake.intercept = () => undefined;
  fake.goOn();
  assert.equal(await thawing, 2, "the answer to the freeze is not taken for it");
  agent.close();
});

test("an error of the agent is one with its words", async () => {
  const { fake, agent } = await connected();
  fake.intercept = (command) =>
    command.startsWith("guest-fs") ? new Error("it has been disabled") : undefined;
  const message = /in the guest of VM "vm1": guest-fsfreeze-freeze: it has been disabled/;
  await assert.rejects(agent.freeze(), message);
  agent.close();
});

test("a socket that is closed, or says what is no answer, ends what waits", async () => {
  const { fake, agent } = await connected();
  fake.intercept = (command) => (command === "guest-fsfreeze-freeze" ? "vanish" : undefined);
  await assert.rejects(agent.freeze(), (error) => isKelpieError(error, "closed"));
  await assert.rejects(agent.thaw(), (error) => isKelpieError(error, "closed"));
  const second = await connected();
  second.fake.intercept = () => "hang";
  const syncing = second.agent.sync();
  second.fake.sayRaw(Buffer.of(0xff));
  second.fake.sayRaw(Buffer.alloc(messageBytesMax + 1, "x"));
  await assert.rejects(syncing, /is longer than/);
  second.agent.close();
});

test("where nobody listens, the error says how to name another place", async () => {
  const components = { net: new MemoryNet(), timers: new ManualTimers() };
  await assert.rejects(connectAgent({ address, name: "vm1" }, components), (error) => {
    assert.ok(isKelpieError(error, "not-found"));
    assert.match(error.remedy ?? "", /kelpie vm attach vm1 --agent ADDR/);
    return true;
  });
});
