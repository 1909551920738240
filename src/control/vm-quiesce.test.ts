import assert from "node:assert/strict";
import { test } from "node:test";
import type { AgentInterception } from "../../test/support/fake-agent.ts";
import { agentSocket, monitor, VmWorld } from "../../test/support/vm-world.ts";
import { isKelpieError } from "../base/errors.ts";

const freeze = "guest-fsfreeze-freeze";
const thaw = "guest-fsfreeze-thaw";

function snapshot(world: VmWorld, tag = "s", names = ["root", "data"]) {
  return world.control.call("vdi.snapshot", { names, tag, quiesce: true });
}

function tags(world: VmWorld): string[] {
  return world.vdis.registry.snapshotsOf("root").map(({ tag }) => tag);
}

/** What it throws, as virtual time passes until then. */
async function failure(world: VmWorld, call: Promise<unknown>): Promise<Error> {
  let thrown: Error | undefined;
  call.then(
    () => assert.fail("it was done"),
    (error: Error) => {
      thrown = error;
    },
  );
  for (let second = 0; second < 200 && thrown === undefined; second++) {
    await world.host.time.advance(1000);
  }
  assert.ok(thrown, "it failed in time");
  return thrown;
}

test("the guest's file systems are frozen while the disks are snapshotted, and then thawed", async () => {
  const world = await VmWorld.attached();
  let wasTakenBeforeThaw = false;
  world.agent.leftOver = '{"return": 7}\n{"retu';
  world.agent.intercept = (command): AgentInterception => {
    if (command === freeze) assert.deepEqual(tags(world), []);
    if (command === thaw) wasTakenBeforeThaw = tags(world).length === 1;
    return undefined;
  };
  const entries = await snapshot(world);
  assert.deepEqual(
    entries.map(({ name, tag, snapId }) => [name, tag, snapId]),
    [
      ["root", "s", 1],
      ["data", "s", 1],
    ],
  );
  const commands = world.agent.log.filter((command) => command !== "guest-sync-delimited");
  assert.deepEqual(commands, [freeze, thaw]);
  assert.ok(wasTakenBeforeThaw);
  assert.ok(!world.agent.isFrozen);
  await world.mustBeInOrder();
  await world.close();
});

test("a guest that cannot freeze is thawed, and no snapshot is taken", async () => {
  const world = await VmWorld.attached();
  world.agent.intercept = (command): AgentInterception =>
    command === freeze ? new Error("failed to freeze /data") : undefined;
  const error = await failure(world, snapshot(world));
  assert.match(error.message, /VM "vm1": guest-fsfreeze-freeze: failed to freeze \/data/);
  assert.equal(world.agent.log.at(-1), thaw);
  assert.deepEqual(tags(world), []);
  await world.mustBeInOrder();
  await world.close();
});

test("where no agent answers nothing is done, and the error says what is missing", async () => {
  const world = await VmWorld.attached();
  world.agent.intercept = () => "hang";
  const error = await failure(world, snapshot(world));
  assert.ok(isKelpieError(error, "unsupported"));
  assert.match(error.message, /the agent in the guest of VM "vm1" does not answer/);
  assert.match(error.remedy ?? "", /qemu-guest-agent/);
  assert.deepEqual(world.agent.log, ["guest-sync-delimited"], "not even asked to freeze");
  assert.deepEqual(tags(world), []);
  await world.mustBeInOrder();
  await world.close();
});

test("a freeze without an answer is given up, and followed by a thaw", async () => {
  const world = await VmWorld.attached();
  world.agent.intercept = (command): AgentInterception => {
    if (command !== freeze) return undefined;
    // It freezes after all, and says so when nobody waits for it any more.
    world.host.timers.after(31_000, () => world.agent.goOn());
    return "slow";
  };
  const error = await failure(world, snapshot(world));
  assert.match(error.message, /did not answer guest-fsfreeze-freeze in time/);
  assert.equal(world.agent.log.at(-1), thaw);
  assert.ok(!world.agent.isFrozen);
  assert.deepEqual(tags(world), []);
  await world.mustBeInOrder();
  await world.close();
});

test("when the snapshot fails the guest is thawed all the same", async () => {
  const world = await VmWorld.attached();
  await snapshot(world, "taken");
  world.agent.log.length = 0;
  const error = await failure(world, snapshot(world, "taken"));
  assert.ok(isKelpieError(error, "exists"));
  assert.ok(world.agent.log.includes(freeze));
  assert.equal(world.agent.log.at(-1), thaw);
  assert.ok(!world.agent.isFrozen);
  await world.mustBeInOrder();
  await world.close();
});

test("a thaw that fails is an error that says so, and is tried until it works", async () => {
  const world = await VmWorld.attached();
  world.agent.intercept = (command): AgentInterception =>
    command === thaw ? new Error("not now") : undefined;
  const error = await failure(world, snapshot(world));
  assert.match(
    error.message,
    /^the snapshot is taken; file systems of VM "vm1" may still be frozen/,
  );
  assert.match(error.message, /guest-fsfreeze-thaw: not now$/);
  assert.deepEqual(tags(world), ["s"]);
  assert.ok(world.agent.isFrozen);
  world.agent.intercept = () => undefined;
  await world.until(() => !world.agent.isFrozen);
  await world.until(() => world.vdis.registry.vms.find("vm1").pending === null);
  await world.mustBeInOrder();
  await world.close();
});

test("a Kelpie that dies while the guest is frozen is followed by one that thaws it", async () => {
  const world = await VmWorld.attached();
  const died = Promise.withResolvers<ReturnType<VmWorld["die"]>>();
  world.agent.intercept = (command): AgentInterception => {
    if (command !== thaw) return undefined;
    queueMicrotask(() => died.resolve(world.die()));
    return "vanish";
  };
  snapshot(world).catch(() => {});
  const files = await died.promise;
  assert.ok(world.agent.isFrozen);
  world.agent.intercept = () => undefined;
  const { qemu, agent, net } = world;
  const next = await VmWorld.open({ files, qemu, agent, net });
  await next.until(() => !agent.isFrozen);
  await next.until(() => next.vdis.registry.vms.find("vm1").pending === null);
  await next.close();
});

test("what cannot be quiesced is said, and what to do", async () => {
  const world = await VmWorld.open();
  await world.control.call("vm.attach", { name: "vm1", monitor });
  await assert.rejects(snapshot(world), (error) => {
    assert.ok(isKelpieError(error, "unsupported"));
    assert.match(error.message, /where VM "vm1" has its guest agent is not known/);
    assert.equal(error.remedy?.startsWith("kelpie vm attach vm1 --agent ADDR"), true);
    return true;
  });
  await world.control.call("vm.attach", { name: "vm1", agent: agentSocket });
  await world.vdis.create("spare", 2 ** 20);
  await assert.rejects(snapshot(world, "s", ["root", "spare"]), /disk "spare" is no VM's/);
  world.qemu.isRunning = false;
  await assert.rejects(snapshot(world), /the guest of VM "vm1" stands still \(paused\)/);
  world.net.stopListening(agentSocket);
  world.qemu.isRunning = true;
  await assert.rejects(snapshot(world), /the agent's socket of VM "vm1" does not answer/);
  assert.deepEqual(tags(world), []);
  // Off, it writes nothing.
  world.net.stopListening(monitor);
  await snapshot(world);
  assert.deepEqual(tags(world), ["s"]);
  await world.close();
});
