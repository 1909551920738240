import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Cut } from "../../test/support/sheep/cut-net.ts";
import {
  cutOperation,
  cutOperationNames,
  makeDisks,
} from "../../test/support/sheep/cut-operations.ts";
import { mebibyte, SheepWorld } from "../../test/support/sheep/sheep-world.ts";
import { isSoak } from "../../test/support/soak.ts";
import { isKelpieError } from "../base/errors.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { RemoteExports } from "./client-exports.ts";
import { describePoints } from "./client-points.ts";
import { RemoteVdis } from "./client-vdis.ts";
import { result } from "./results.ts";
import { opcode } from "./wire-opcodes.ts";

const url = "sheepdog://127.0.0.1:7000";
const diskBytes = 4 * mebibyte;

describe("the disks of an original cluster", () => {
  test("are listed with their history, round the end of the vids too", async () => {
    const { vdis, world } = await worldWithDisks();
    // Of these names the first vid is the last one there is, and 1.
    for (const name of ["05421217", "01909709"]) {
      await vdis.create(name, diskBytes);
      for (const tag of ["a", "b"]) await vdis.snapshot(name, tag);
    }
    const points = await describePoints(vdis.client);
    const shown = points.map(({ name, kind, tag, snapId }) => `${name} ${kind} ${snapId} ${tag}`);
    assert.deepEqual(shown.toSorted(), [
      "01909709 snapshot 1 a",
      "01909709 snapshot 2 b",
      "01909709 working 3 ",
      "05421217 snapshot 1 a",
      "05421217 snapshot 2 b",
      "05421217 working 3 ",
      "disk snapshot 1 one",
      "disk snapshot 2 two",
      "disk working 3 ",
    ]);
    // The tag is looked for among all of them.
    await assert.rejects(vdis.snapshot("05421217", "a"), coded("exists"));
    await world.close();
  });

  test("a rollback leaves the other snapshots alone, makes none, and can be repeated", async () => {
    const { vdis, world, volume } = await worldWithDisks();
    await vdis.rollback("disk", "one", true);
    assert.deepEqual(await read(volume, 0, 2), [1, 1]);
    await volume.write([filled(512, 9)], 0);
    await vdis.rollback("disk", "two", true);
    assert.deepEqual(await read(volume, 0, 2), [2, 2]);
    const points = await describePoints(vdis.client);
    assert.deepEqual(
      points.map(({ kind, tag, snapId, parent }) => [kind, tag, snapId, parent?.vid]),
      [
        ["snapshot", "one", 1, undefined],
        ["snapshot", "two", 2, points[0]?.vid],
        ["working", "", 3, points[1]?.vid],
      ],
    );
    assert.deepEqual(world.sheep.inconsistencies(), []);
    await world.close();
  });

  test("a snapshot that is deleted takes nothing of the others with it", async () => {
    const { vdis, world, volume } = await worldWithDisks();
    await vdis.deleteSnapshot("disk", "one");
    assert.deepEqual(await read(volume, 0, 1), [3]);
    assert.deepEqual(await read(volume, mebibyte, 1), [1]);
    const two = await new RemoteExports({ vdis }).open("disk@two", someone);
    assert.deepEqual(await read(two.device, 0, 1), [2]);
    await two.close();
    await assert.rejects(vdis.find("disk", "one"), coded("not-found"));
    await vdis.deleteSnapshot("disk", "#2");
    assert.deepEqual(world.sheep.inconsistencies(), []);
    await vdis.delete("disk");
    assert.equal(world.sheep.objects.size, 0);
    await world.close();
  });

  test("a clone shares, and outlives what it was made from", async () => {
    const { vdis, world } = await worldWithDisks();
    await vdis.clone("disk", "one", "clone");
    await assert.rejects(vdis.clone("disk", "one", "clone"), coded("exists"));
    await vdis.deleteSnapshot("disk", "one");
    await vdis.delete("disk");
    const clone = await world.open("clone");
    await clone.write([filled(1, 7)], 1);
    assert.deepEqual(await read(clone, 0, 3), [1, 7, 1]);
    assert.deepEqual(world.sheep.inconsistencies(), []);
    await world.close();
  });

  test("exports are working VDIs, snapshots by tag and id, and names with an @ in them", async () => {
    const { vdis, world } = await worldWithDisks();
    await vdis.create("a@b", mebibyte);
    const exports = new RemoteExports({ vdis });
    assert.deepEqual(
      (await exports.list()).map(({ name }) => name),
      ["a@b", "disk"],
    );
    for (const [name, readOnly, byte] of [
      ["disk", false, 3],
      ["disk@one", true, 1],
      ["disk@#2", true, 2],
      ["a@b", false, 0],
    ] as const) {
      const opened = await exports.open(name, someone);
      assert.equal(opened.device.readOnly, readOnly);
      assert.deepEqual(await read(opened.device, 0, 1), [byte]);
      await opened.close();
    }
    await assert.rejects(exports.open("disk@three", someone), coded("not-found"));
    await world.close();
  });

  test("the lock of the original goes with the disk over snapshots and rollbacks", async () => {
    const { vdis, world, close } = await worldWithDisks();
    await close();
    world.sheep.locking = true;
    const { volume, close: release } = await vdis.volumes.open("disk");
    const other = await world.client();
    const mustBeLocked = () => assert.rejects(other.lock({ name: "disk" }), coded("busy"));
    await vdis.snapshot("disk", "three");
    await mustBeLocked();
    await other.lock({ name: "disk", tag: "three" });
    await vdis.rollback("disk", "one", true);
    await mustBeLocked();
    world.snapshot("disk", "another client's");
    await volume.write([filled(512, 9)], 0);
    await mustBeLocked();
    await release();
    await other.lock({ name: "disk" });
    // Somebody was quicker than we are.
    await other.release("disk", (await vdis.find("disk")).vid);
    const again = await vdis.volumes.open("disk");
    world.snapshot("disk", "yet another client's");
    await other.lock({ name: "disk" });
    await assert.rejects(again.volume.write([filled(512, 9)], 0), coded("busy"));
    await world.close();
  });

  test("what is in use is not rolled back, deleted or locked twice", async () => {
    const { vdis, world, close } = await worldWithDisks();
    await close();
    const exports = new RemoteExports({ vdis });
    const [disk, one] = [
      await exports.open("disk", someone),
      await exports.open("disk@one", someone),
    ];
    await assert.rejects(vdis.rollback("disk", "one", false), coded("busy"));
    await assert.rejects(vdis.delete("disk"), coded("busy"));
    await assert.rejects(vdis.deleteSnapshot("disk", "one"), coded("busy"));
    await disk.close();
    await one.close();
    world.sheep.locking = true;
    const opened = await exports.open("disk", someone);
    const other = new RemoteVdis({ url }, { client: await world.client() });
    await assert.rejects(new RemoteExports({ vdis: other }).open("disk", someone), coded("busy"));
    await opened.close();
    await (await new RemoteExports({ vdis: other }).open("disk", someone)).close();
    await world.close();
  });

  test("when the second step of a rollback fails the message says how to do it", async () => {
    const { vdis, world } = await worldWithDisks();
    world.server.intercept = ({ prefix }) =>
      prefix.opcode === opcode.newVdi ? result.noSpace : undefined;
    const remedy = `${url} vdi rollback disk -s one`;
    await assert.rejects(vdis.rollback("disk", "one", true), (error) => {
      assert.ok(isKelpieError(error) && error.message.includes("has only snapshots now"));
      return error.remedy?.includes(remedy) === true;
    });
    world.server.intercept = undefined;
    await vdis.rollback("disk", "one", true);
    assert.deepEqual(await read(await world.open("disk"), 0, 1), [1]);
    assert.deepEqual(world.sheep.inconsistencies(), []);
    await world.close();
  });

  test("a snapshot that fails leaves no tag behind", async () => {
    const { vdis, world } = await worldWithDisks();
    world.server.intercept = ({ prefix }) =>
      prefix.opcode === opcode.newVdi ? result.vdiWrite : undefined;
    await assert.rejects(vdis.snapshot("disk", "three"), coded("io"));
    world.server.intercept = undefined;
    await vdis.snapshot("disk");
    await assert.rejects(vdis.find("disk", "three"), coded("not-found"));
    await vdis.snapshot("disk", "three");
    await world.close();
  });

  for (const name of cutOperationNames) {
    test(`${name}: cut anywhere, it has happened or not, or can be repeated`, async () => {
      const { places } = await cutAt(name, undefined);
      for (const cut of places) assert.equal((await cutAt(name, cut)).cuts, 1);
    });
  }
});

async function cutAt(name: string, cut: Cut | undefined) {
  const { world } = await worldWithDisks();
  const placesMax = isSoak ? Number.POSITIVE_INFINITY : 8;
  const done = await cutOperation(name, world, { ...(cut && { cut }), placesMax });
  assert.deepEqual(world.sheep.inconsistencies(), [], `${name}, cut ${JSON.stringify(cut)}`);
  await world.close();
  return done;
}

const someone = { protocol: "nbd", peer: "a test" } as const;

async function worldWithDisks() {
  const world = await SheepWorld.start();
  const vdis = new RemoteVdis({ url }, { client: await world.client() });
  return { world, vdis, ...(await makeDisks(vdis)) };
}

function coded(code: string): (error: unknown) => boolean {
  return (error) => isKelpieError(error) && error.code === code;
}

function filled(length: number, byte: number): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

async function read(device: BlockDevice, offset: number, length: number): Promise<number[]> {
  const target = new Uint8Array(length).fill(0xee);
  await device.read(target, offset);
  return [...target];
}
