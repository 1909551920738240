import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { blockDeviceSuite } from "../../test/conformance/block-device-suite.ts";
import { mebibyte, plainVdi, SheepWorld } from "../../test/support/sheep/sheep-world.ts";
import type { KelpieError } from "../base/errors.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { result } from "./results.ts";
import { opcode } from "./wire-opcodes.ts";

blockDeviceSuite(
  "a VDI of the original",
  async (sizeBytes) => {
    const world = await SheepWorld.start({ blockSizeShift: sizeBytes > 2 ** 40 ? 23 : 20 });
    world.createDisk("disk", sizeBytes);
    return { device: await world.open("disk"), close: () => world.close() };
  },
  { historiesMax: 10 },
);

describe("a volume of the original", () => {
  test("is copied on write: the snapshot keeps what it had, and only what is written is new", async () => {
    const world = await SheepWorld.start();
    const old = world.createDisk("disk", 4 * mebibyte);
    const volume = await world.open("disk");
    await volume.write([filled(2 * mebibyte, 1)], 0);
    const vid = world.snapshot("disk", "one");
    await volume.write([filled(512, 2)], mebibyte + 4096);
    assert.equal(volume.vid, vid);
    const inode = world.sheep.inode(vid);
    assert.deepEqual(
      [...inode.used()],
      [
        [0, old],
        [1, vid],
      ],
    );
    assert.deepEqual(
      [...world.sheep.inode(old).used()],
      [
        [0, old],
        [1, old],
      ],
    );
    assert.deepEqual(await read(volume, mebibyte + 4000, 96), filled(96, 1));
    assert.deepEqual(await read(volume, mebibyte + 4096, 512), filled(512, 2));
    assert.deepEqual(await read(volume, mebibyte + 4608, 100), filled(100, 1));
    assert.deepEqual(world.sheep.inconsistencies(), []);
    await world.close();
  });

  test("goes on to the working VDI over several snapshots that it missed", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", 4 * mebibyte);
    const volume = await world.open("disk");
    await volume.write([filled(512, 1)], 0);
    for (const tag of ["a", "b", "c"]) world.snapshot("disk", tag);
    await Promise.all([volume.write([filled(512, 2)], 0), volume.write([filled(512, 3)], 1024)]);
    const again = await world.open("disk");
    assert.deepEqual(await read(again, 0, 512), filled(512, 2));
    assert.deepEqual(await read(again, 1024, 512), filled(512, 3));
    await world.close();
  });

  test("enters an object that was made in the moment of a snapshot into the new working VDI", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", 4 * mebibyte);
    const volume = await world.open("disk");
    // Between the object and its entry, and then between the entry and the question that follows it.
    for (const [index, moment] of [opcode.writeObject, opcode.getVdiInfo].entries()) {
      world.server.intercept = ({ prefix }) => {
        if (prefix.opcode !== moment) return undefined;
        world.server.intercept = undefined;
        world.snapshot("disk", `at ${moment}`);
        return undefined;
      };
      await volume.write([filled(512, index + 1)], index * mebibyte);
    }
    const again = await world.open("disk");
    assert.deepEqual(await read(again, 0, 512), filled(512, 1));
    assert.deepEqual(await read(again, mebibyte, 512), filled(512, 2));
    assert.deepEqual(world.sheep.inconsistencies(), []);
    await world.close();
  });

  test("never writes a hole into a snapshot that was taken before", async () => {
    const world = await SheepWorld.start();
    const old = world.createDisk("disk", 4 * mebibyte);
    const volume = await world.open("disk");
    await volume.write([filled(mebibyte, 1)], 0);
    const vid = world.snapshot("disk", "one");
    await volume.zero(0, mebibyte);
    assert.deepEqual([...world.sheep.inode(old).used()], [[0, old]]);
    assert.deepEqual([...world.sheep.inode(vid).used()], []);
    assert.deepEqual(await read(volume, 0, 512), filled(512, 0));
    assert.deepEqual(world.sheep.inconsistencies(), []);
    await world.close();
  });

  test("a range of entries never spans one that is shared, so no count goes wrong", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", 8 * mebibyte);
    const volume = await world.open("disk");
    await volume.write([filled(8 * mebibyte, 1)], 0);
    const first = world.sheep.lookup("disk", "", 0);
    world.snapshot("disk", "one");
    world.sheep.newVdi({ ...plainVdi, name: "clone", sizeBytes: 8 * mebibyte, baseVid: first });
    await Promise.all([0, 2, 3, 6].map((at) => volume.write([filled(512, 2)], at * mebibyte)));
    await volume.trim(mebibyte, mebibyte);
    const clone = await world.open("clone");
    for (let at = 0; at < 8; at++) await clone.write([filled(512, 3)], at * mebibyte);
    // The snapshot and the clone still have everything.
    assert.deepEqual(world.sheep.inconsistencies(), []);
    const snapshot = world.sheep.inode(first);
    assert.equal([...snapshot.used()].length, 8);
    await world.close();
  });

  test("fails, and loses nothing, when another client rolled the disk back", async () => {
    const world = await SheepWorld.start();
    const base = world.createDisk("disk", 4 * mebibyte);
    const tip = world.snapshot("disk", "one");
    const volume = await world.open("disk");
    await volume.write([filled(512, 1)], 0);
    world.sheep.inode(tip).setEntry(0, 0);
    world.sheep.deleteVdi("disk", "", 0);
    world.sheep.newVdi({ ...plainVdi, name: "disk", sizeBytes: 4 * mebibyte, baseVid: base });
    await assert.rejects(volume.write([filled(512, 2)], mebibyte), /rolled back or replaced/);
    await assert.rejects(volume.read(new Uint8Array(512), 0), /rolled back or replaced/);
    await world.close();
  });

  test("reads no holes when the disk is deleted and made anew while its map is read", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", 4 * mebibyte);
    const first = await world.open("disk");
    await first.write([filled(512, 1)], 0);
    const base = world.sheep.lookup("disk", "", 0);
    const tip = world.snapshot("disk", "one");
    let reads = 0;
    world.server.intercept = ({ prefix }) => {
      // Its header was read, and its map comes next.
      if (prefix.opcode !== opcode.readObject || ++reads !== 2) return undefined;
      world.sheep.inode(tip).setEntry(0, 0);
      world.sheep.deleteVdi("disk", "", 0);
      world.sheep.newVdi({ ...plainVdi, name: "disk", sizeBytes: 4 * mebibyte, baseVid: base });
      return undefined;
    };
    const volume = await world.open("disk");
    world.server.intercept = undefined;
    assert.notEqual(volume.vid, tip);
    assert.deepEqual(await read(volume, 0, 512), filled(512, 1));
    await world.close();
  });

  test("says so when the server keeps a working VDI read-only", async () => {
    const world = await SheepWorld.start();
    const vid = world.createDisk("disk", 4 * mebibyte);
    const volume = await world.open("disk");
    await volume.write([filled(512, 1)], 0);
    world.sheep.newVdi({ ...plainVdi, name: "clone", sizeBytes: 4 * mebibyte, baseVid: vid });
    await assert.rejects(volume.write([filled(512, 2)], 0), coded("read-only"));
    await world.close();
  });

  test("flushes until the server says that there is nothing to flush", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", mebibyte);
    const volume = await world.open("disk");
    let flushes = 0;
    world.server.intercept = ({ prefix }) => {
      if (prefix.opcode !== opcode.flushVdi) return undefined;
      flushes++;
      return flushes < 3 ? 0 : result.invalidParameters;
    };
    for (let round = 0; round < 6; round++) await volume.flush();
    assert.equal(flushes, 3);
    await world.close();
  });

  test("grows, and keeps its size over a snapshot of the same moment", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", mebibyte);
    const volume = await world.open("disk");
    world.server.intercept = ({ prefix }) => {
      if (prefix.opcode !== opcode.writeObject) return undefined;
      world.server.intercept = undefined;
      world.snapshot("disk", "one");
      return undefined;
    };
    await volume.resize(3 * mebibyte);
    assert.equal(volume.sizeBytes, 3 * mebibyte);
    await volume.write([filled(512, 5)], 3 * mebibyte - 512);
    const again = await world.open("disk");
    assert.equal(again.sizeBytes, 3 * mebibyte);
    assert.deepEqual(await read(again, 3 * mebibyte - 512, 512), filled(512, 5));
    await world.close();
  });

  test("tells how far up data was written, and what changed since a snapshot", async () => {
    const world = await SheepWorld.start();
    world.createDisk("disk", 4 * mebibyte);
    const volume = await world.open("disk");
    await volume.write([filled(2 * mebibyte, 1)], 0);
    world.snapshot("disk", "one");
    await volume.write([filled(512, 2)], mebibyte);
    const range = { offset: 0, length: 4 * mebibyte, extentsMax: 10 };
    const values = async (query: Parameters<BlockDevice["extents"]>[0]) =>
      (await volume.extents(query)).map(({ lengthBytes, value }) => [
        lengthBytes / mebibyte,
        value,
      ]);
    assert.deepEqual(await values({ kind: "depth", ...range }), [
      [1, 2],
      [1, 1],
      [2, 0],
    ]);
    const since = { kind: "changed", ...range } as const;
    assert.deepEqual(await values({ ...since, since: "one" }), [
      [1, 0],
      [1, 1],
      [2, 0],
    ]);
    await assert.rejects(values({ ...since, since: "two" }), coded("not-found"));
    await world.close();
  });

  test("refuses hyper volumes", async () => {
    const world = await SheepWorld.start();
    world.sheep.newVdi({ ...plainVdi, name: "hyper", sizeBytes: mebibyte, storePolicy: 1 });
    await assert.rejects(world.open("hyper"), coded("unsupported"));
    await assert.rejects(world.open("nothing"), coded("not-found"));
    await world.close();
  });
});

function coded(code: string): (error: KelpieError) => boolean {
  return (error) => error.code === code;
}

function filled(length: number, byte: number): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

async function read(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const target = new Uint8Array(length).fill(0xee);
  await device.read(target, offset);
  return target;
}
