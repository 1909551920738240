import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import { type Cut, CutNet } from "../../test/support/sheep/cut-net.ts";
import { mebibyte, SheepWorld } from "../../test/support/sheep/sheep-world.ts";
import { isSoak } from "../../test/support/soak.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { result } from "./results.ts";
import { opcode } from "./wire-opcodes.ts";

const diskBytes = 4 * mebibyte;

describe("a volume over a faulty network", () => {
  test("loses no write when the connection is cut after any byte, either way", async () => {
    // All of them in the long form. 61 has no factor in common with the 48 bytes of a header.
    const step = isSoak ? 1 : 61;
    const whole = await cutWorld(undefined);
    assert.equal(whole.cuts, 0);
    for (const direction of ["out", "in"] as const) {
      for (let afterBytes = 0; afterBytes < whole.passed[direction]; afterBytes += step) {
        const { cuts } = await cutWorld({ direction, afterBytes });
        assert.equal(cuts, 1, `cut ${direction} after ${afterBytes}`);
      }
    }
  });

  test("loses no write when requests and answers overtake each other, and snapshots are taken", async () => {
    for (let seed = 1; seed <= (isSoak ? 200 : 15); seed++) await shuffledWorld(seed);
  });

  test("waits for a server that is away, and goes on where it was", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", diskBytes);
    const volume = await world.open("disk");
    await volume.write([filled(100, 1)], 0);
    await world.server.stop();
    const writing = [volume.write([filled(100, 2)], 50), volume.write([filled(100, 3)], mebibyte)];
    for (let turn = 0; turn < 10; turn++) await world.timers.sleep(0);
    await world.server.listen(world.net);
    await Promise.all(writing);
    assert.deepEqual(
      await read(volume, 0, 150),
      new Uint8Array([...filled(50, 1), ...filled(100, 2)]),
    );
    await world.close();
  });

  test("gives up after a while, and works again when a server is back", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", diskBytes);
    const volume = await world.open("disk");
    await world.server.stop();
    await assert.rejects(volume.write([filled(100, 2)], 50), /no Sheepdog server answers/);
    await world.server.listen(world.net);
    await volume.write([filled(100, 2)], 50);
    await world.close();
  });

  test("asks again when a node is starting or waits for others", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", diskBytes);
    const volume = await world.open("disk");
    const answers: number[] = [result.startup, result.waitForJoin, result.again];
    world.server.intercept = () => answers.shift();
    await volume.write([filled(100, 2)], 50);
    assert.deepEqual(await read(volume, 50, 100), filled(100, 2));
    await world.close();
  });

  test("gives up on a server that drops every connection", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", diskBytes);
    const volume = await world.open("disk");
    world.server.intercept = () => "close";
    await assert.rejects(volume.write([filled(100, 2)], 50), /no Sheepdog server answers/);
    world.server.intercept = undefined;
    await volume.write([filled(100, 2)], 50);
    await world.close();
  });

  test("fails a write that the server refuses, and only that", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", diskBytes);
    const volume = await world.open("disk");
    await volume.write([filled(100, 1)], 0);
    for (const refused of [opcode.createAndWriteObject, opcode.writeObject, opcode.getVdiInfo]) {
      world.server.intercept = ({ prefix }) => {
        if (prefix.opcode !== refused) return undefined;
        world.server.intercept = undefined;
        return result.noSpace;
      };
      await assert.rejects(volume.write([filled(100, 2)], mebibyte), /no space/);
      world.server.intercept = undefined;
    }
    await volume.write([filled(50, 3)], mebibyte + 25);
    const again = await world.open("disk");
    assert.deepEqual(await read(again, mebibyte + 25, 50), filled(50, 3));
    assert.deepEqual(world.sheep.inconsistencies(), []);
    await world.close();
  });
});

/** Some of everything a volume does, over a network that is cut once. */
async function cutWorld(cut: Cut | undefined) {
  const world = await SheepWorld.start();
  world.createDisk("disk", diskBytes);
  const net = new CutNet(cut, { net: world.net });
  const volume = await world.open("disk", await world.client(net));
  const expected = new Uint8Array(diskBytes);
  const write = async (offset: number, length: number, byte: number) => {
    await volume.write([filled(length, byte)], offset);
    expected.fill(byte, offset, offset + length);
  };
  await Promise.all([write(10, 9, 1), write(mebibyte - 3, 6, 2), write(3 * mebibyte, 5, 3)]);
  await write(12, 3, 4);
  world.snapshot("disk", "one");
  await Promise.all([write(14, 9, 5), write(mebibyte, 4, 6)]);
  await volume.zero(3 * mebibyte, mebibyte);
  expected.fill(0, 3 * mebibyte);
  await write(3 * mebibyte + 7, 2, 7);
  await volume.flush();
  const passed = { ...net.passed };
  const again = await world.open("disk");
  for (const device of [volume, again]) {
    for (const offset of [0, mebibyte - 100, 2 * mebibyte, 3 * mebibyte]) {
      const bytes = await read(device, offset, 200);
      const message = `at ${offset} after a cut at ${JSON.stringify(cut)}`;
      assert.deepEqual(bytes, expected.subarray(offset, offset + 200), message);
    }
  }
  assert.deepEqual(world.sheep.inconsistencies(), []);
  await world.close();
  return { passed, cuts: net.cuts };
}

async function shuffledWorld(seed: number): Promise<void> {
  const random = new SeededRandom(seed);
  const world = await SheepWorld.start({ shuffle: () => random.below(2 ** 20) / 2 ** 20 });
  world.createDisk("disk", diskBytes);
  const volume = await world.open("disk");
  const expected = new Uint8Array(diskBytes);
  for (let round = 1; round <= 12; round++) {
    // In places of their own, so that it is known what must be there.
    const writes = Array.from({ length: 12 }, async (_, writer) => {
      const offset = writer * 333_333 + random.below(300_000);
      const length = 1 + random.below(30_000);
      await volume.write([filled(length, round)], offset);
      expected.fill(round, offset, offset + length);
    });
    if (random.below(2) === 0) {
      await Promise.resolve();
      world.snapshot("disk", `round ${round}`);
    }
    await Promise.all(writes);
  }
  const again = await world.open("disk");
  const bytes = await read(again, 0, diskBytes);
  assert.equal(Buffer.compare(bytes, expected), 0, `seed ${seed}`);
  assert.deepEqual(world.sheep.inconsistencies(), [], `seed ${seed}`);
  await world.close();
}

function filled(length: number, byte: number): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

async function read(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const target = new Uint8Array(length).fill(0xee);
  await device.read(target, offset);
  return target;
}
