import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { KelpieError } from "../base/errors.ts";
import { blockBytes } from "../block/block-device.ts";
import { readBytes } from "./byte-ranges.ts";

const disk = Buffer.from(
  Array.from({ length: 8 * blockBytes }, (_, at) => (at * 31 + (at >> 12)) % 256),
);

function copyBlocks(target: Uint8Array, first: number): void {
  assert.equal(target.length % blockBytes, 0, "whole blocks only");
  target.set(disk.subarray(first * blockBytes, first * blockBytes + target.length));
}

const offsets = [0, 1, 4095, 4096, 5000, 8192];
const lengths = [0, 1, 4095, 4096, 4097, 8191, 8192, 12288, 20000];

describe("any byte range out of whole blocks", () => {
  const reads = {
    "at once": (target: Uint8Array, first: number) => copyBlocks(target, first),
    later: async (target: Uint8Array, first: number) => {
      await new Promise(setImmediate);
      copyBlocks(target, first);
    },
    "at once or later": (target: Uint8Array, first: number) => {
      if (first % 2 === 0) return copyBlocks(target, first);
      return new Promise(setImmediate).then(() => copyBlocks(target, first));
    },
  };
  for (const [when, read] of Object.entries(reads)) {
    test(`read ${when}`, async () => {
      for (const offset of offsets) {
        for (const length of lengths) {
          const target = Buffer.alloc(length, 0xee);
          await readBytes(read, target, offset);
          const expected = disk.subarray(offset, offset + length);
          assert.ok(target.equals(expected), `${length} bytes at ${offset}`);
        }
      }
    });
  }

  test("several at the same time do not share memory", async () => {
    const targets = offsets.map((offset) => ({ offset, target: Buffer.alloc(9000) }));
    const done = targets.map(({ offset, target }) => readBytes(reads.later, target, offset));
    await Promise.all(done);
    for (const { offset, target } of targets) {
      assert.ok(target.equals(disk.subarray(offset, offset + 9000)), `at ${offset}`);
    }
  });

  test("whole blocks are read into the target itself, and the blocks at the ends once each", () => {
    const target = Buffer.alloc(3 * blockBytes);
    const seen: [number, number, boolean][] = [];
    const read = (part: Uint8Array, first: number) => {
      seen.push([first, part.length / blockBytes, part.buffer === target.buffer]);
      copyBlocks(part, first);
    };
    assert.equal(readBytes(read, target, 100), undefined);
    assert.deepEqual(seen, [
      [0, 1, false],
      [1, 2, true],
      [3, 1, false],
    ]);
  });

  test("one that fails at once or later is told when the others have ended", async () => {
    for (const failsAtOnce of [true, false]) {
      let isUnderWay = false;
      const failure = new KelpieError("io", "on purpose");
      const read = (target: Uint8Array, first: number) => {
        if (first === 3) {
          if (failsAtOnce) throw failure;
          return Promise.reject(failure);
        }
        if (first !== 1) return copyBlocks(target, first);
        isUnderWay = true;
        return new Promise<void>((resolve) => {
          setTimeout(() => {
            isUnderWay = false;
            resolve();
          }, 5);
        });
      };
      const reading = async () => await readBytes(read, Buffer.alloc(3 * blockBytes), 100);
      await assert.rejects(reading(), failure);
      assert.equal(isUnderWay, false);
    }
  });
});
