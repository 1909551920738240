import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { ManualTimers } from "../../test/support/manual-timers.ts";
import { MemoryNet } from "../../test/support/memory-net.ts";
import { OriginalSheep } from "../../test/support/sheep/original-sheep.ts";
import { QuickTimers } from "../../test/support/sheep/quick-timers.ts";
import { SheepServer } from "../../test/support/sheep/sheep-server.ts";
import { mebibyte, plainVdi } from "../../test/support/sheep/sheep-world.ts";
import type { Timers } from "../host/timers.ts";
import { SheepdogClient } from "./client.ts";
import { silentMs } from "./client-limits.ts";
import { result } from "./results.ts";
import { opcode } from "./wire-opcodes.ts";

const nodes = [7000, 7001].map((port) => ({ kind: "tcp", host: "127.0.0.1", port }) as const);

/** Two nodes of one cluster with a disk, and a client that is connected to the first. */
async function twoNodes(timers: Timers, giveUpMs?: number) {
  const net = new MemoryNet();
  const sheep = new OriginalSheep({ blockSizeShift: 20 });
  sheep.newVdi({ ...plainVdi, name: "disk", sizeBytes: mebibyte });
  const servers: SheepServer[] = [];
  for (const address of nodes) {
    const server = new SheepServer({ address }, { sheep });
    await server.listen(net);
    servers.push(server);
  }
  const [first, second] = servers as [SheepServer, SheepServer];
  const settings = { nodes, ...(giveUpMs === undefined ? {} : { giveUpMs }) };
  const client = await SheepdogClient.connect(settings, { net, timers });
  const close = async (): Promise<void> => {
    await client.close();
    for (const server of servers) await server.stop();
  };
  return { client, first, second, close };
}

/** Lets time go by in seconds. */
async function pass(timers: ManualTimers, milliseconds: number): Promise<void> {
  for (let passed = 0; passed < milliseconds; passed += 1000) {
    for (let turns = 0; turns < 5; turns++) await turn();
    timers.advance(1000);
  }
  for (let turns = 0; turns < 5; turns++) await turn();
}

describe("a connection to a cluster", () => {
  for (const inFlight of [1, 2, 4, 7]) {
    test(`goes on to the next node once, however many of ${inFlight} requests are sent on`, async () => {
      const { client, first, second, close } = await twoNodes(new QuickTimers());
      first.intercept = () => result.shutdown;
      const asked = Array.from({ length: inFlight }, () => client.lookup({ name: "disk" }));
      await Promise.all(asked);
      assert.deepEqual([first.seen.length, second.seen.length], [inFlight, inFlight]);
      await close();
    });
  }

  test("leaves a node that hangs, and what it was asked is asked another", async () => {
    const timers = new ManualTimers();
    const { client, first, second, close } = await twoNodes(timers);
    await client.lookup({ name: "disk" });
    await pass(timers, 4 * silentMs);
    await client.lookup({ name: "disk" });
    assert.deepEqual([first.seen.length, second.seen.length], [2, 0], "idle is no reason");
    first.intercept = () => "drop";
    const asked = client.lookup({ name: "disk" });
    await pass(timers, 3 * silentMs);
    assert.equal(second.seen.length, 1);
    await asked;
    await close();
    assert.equal(timers.pending, 0);
  });

  test("fails what waits for a cluster that is away, a while after it was told to end", async () => {
    const timers = new ManualTimers();
    const { client, first, second, close } = await twoNodes(timers, Number.POSITIVE_INFINITY);
    await first.stop();
    await second.stop();
    const failed = assert.rejects(client.lookup({ name: "disk" }), { code: "closed" });
    await pass(timers, 60_000);
    client.closeSoon();
    await pass(timers, 6000);
    await failed;
    await assert.rejects(client.lookup({ name: "disk" }), { code: "closed" });
    await close();
  });

  test("speaks the versions that QEMU speaks", async () => {
    const { client, first, close } = await twoNodes(new QuickTimers());
    const versions = new Map<number, number>();
    first.intercept = ({ prefix }) => {
      versions.set(prefix.opcode, prefix.protocolVersion);
      return undefined;
    };
    const { vid } = await client.lock({ name: "disk" });
    await client.clusterDefault();
    await client.readObject({ kind: "inode", vid, index: 0 }, 0, new Uint8Array(8));
    await client.readDeletedVdis();
    await client.release("disk", vid);
    assert.deepEqual(Object.fromEntries(versions), {
      [opcode.lockVdi]: 1,
      [opcode.getClusterDefault]: 1,
      [opcode.readObject]: 0,
      [opcode.readDeletedVdis]: 10,
      [opcode.releaseVdi]: 0,
    });
    await close();
  });
});
