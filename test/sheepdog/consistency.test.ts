import assert from "node:assert/strict";
import { test } from "node:test";
import { readU32 } from "../../src/base/little-endian.ts";
import { decodeInodeEntries, inodeEntriesAt, inodeFieldAt } from "../../src/sheepdog/wire-inode.ts";
import { inodeOid } from "../../src/sheepdog/wire-oid.ts";
import { opcode } from "../../src/sheepdog/wire-opcodes.ts";
import { isSoak } from "../support/soak.ts";
import type { QemuDriver } from "./qemu-driver.ts";
import { serveStore } from "./served-store.ts";

const writers = 16;
const snapshots = isSoak ? 1000 : 100;
const objectBytes = 4 * 2 ** 20;

/** One write: when it was begun and when it was answered, on a clock that counts events. */
interface Write {
  value: number;
  begun: number;
  answered: number;
}

/**
 * Writers that write their own object over and over, each with a client of its own, while another
 * takes snapshots. A snapshot is one moment if no write that it lacks was answered before one that it
 * has was begun.
 */
test("snapshots under sixteen writers are each one moment, and no write is lost", async () => {
  await using store = await serveStore();
  await store.createDisk("test", writers * objectBytes);
  let clock = 0;
  let isOver = false;
  const histories: Write[][] = [];

  async function keepWriting(disk: QemuDriver, index: number): Promise<void> {
    const history: Write[] = [{ value: 0, begun: 0, answered: 0 }];
    histories[index] = history;
    for (let value = 1; !isOver; value++) {
      const write = { value, begun: ++clock, answered: Infinity };
      history.push(write);
      const sector = Buffer.alloc(512);
      sector.writeUInt32LE(value);
      await disk.write(index * objectBytes, sector);
      write.answered = ++clock;
    }
  }

  const disks = await Promise.all(Array.from({ length: writers }, () => store.openDisk("test")));
  const writing = disks.map(keepWriting);
  const client = await store.connect();
  for (let count = 0; count < snapshots; count++) {
    const baseVid = await client.vidOf(opcode.getVdiInfo, "test");
    const tag = Buffer.alloc(256);
    tag.write(`s${count}`);
    await client.write(inodeOid(baseVid), inodeFieldAt.tag, tag);
    const sizeBytes = writers * objectBytes;
    await client.vidOf(opcode.newVdi, "test", { baseVid, snapId: 1, sizeBytes });
  }
  isOver = true;
  await Promise.all(writing);

  const valuesOf = async (tag: string): Promise<number[]> => {
    const vid = await client.vidOf(opcode.getVdiInfo, "test", { tag });
    const { payload } = await client.read(inodeOid(vid), inodeEntriesAt, 4 * writers);
    const values: number[] = [];
    for (const [index, owner] of decodeInodeEntries(payload).entries()) {
      const read = await client.read({ kind: "data", vid: owner, index }, 0, 4);
      values.push(owner === 0 ? 0 : readU32(read.payload, 0));
    }
    return values;
  };
  const last = histories.map((history) => history.at(-1)?.value);
  assert.deepEqual(await valuesOf(""), last, "every answered write is in the working VDI");
  for (let count = 0; count < snapshots; count++) {
    const values = await valuesOf(`s${count}`);
    const latestBegun = Math.max(
      ...values.map((value, index) => histories[index]?.[value]?.begun ?? 0),
    );
    for (const [index, value] of values.entries()) {
      const missing = histories[index]?.[value + 1];
      assert.ok(
        (missing?.answered ?? Infinity) > latestBegun,
        `s${count} lacks write ${value + 1} of writer ${index} and has a later one`,
      );
    }
  }
  const writes = histories.reduce((sum, { length }) => sum + length - 1, 0);
  assert.ok(writes > snapshots, "the writers went on meanwhile");
});
