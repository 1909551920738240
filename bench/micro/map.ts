import assert from "node:assert/strict";
import { SeededRandom } from "../../sim/random.ts";
import { chunkBlocks } from "../../src/store/formats/map-node.ts";
import { MapNodes } from "../../src/store/map/map-nodes.ts";
import { PointMap } from "../../src/store/map/point-map.ts";
import type { MicroBench } from "./micro-bench.ts";

/** 1 GiB, all in memory. */
const chunks = 256;

/** Every block of it is mapped: to segment 2, at its own number. */
function fullMap(): PointMap {
  const reader = { read: () => Promise.reject(new Error("nothing is stored")) };
  const map = new PointMap(new MapNodes({ limitBytes: 2 ** 30 }, { reader }));
  for (let index = 0; index < chunks; index++) {
    const { words } = map.writable(index);
    assert.ok(words);
    for (let slot = 0; slot < chunkBlocks; slot++) words[slot] = index * chunkBlocks + slot;
  }
  return map;
}

/** Blocks in no order; more of them than a cache has lines. */
function randomBlocks(): Uint32Array {
  const random = new SeededRandom(1);
  return Uint32Array.from({ length: 2 ** 16 }, () => random.below(chunks * chunkBlocks));
}

const lookup: MicroBench = {
  name: "map: look a block up",
  prepare: async () => {
    const map = fullMap();
    const blocks = randomBlocks();
    let [found, at] = [0, 0];
    return {
      run(count) {
        for (let done = 0; done < count; done++) {
          const block = blocks[at++ & 0xffff] as number;
          const chunk = map.lookup(Math.floor(block / chunkBlocks));
          if (chunk === undefined || chunk === "absent") continue;
          if (chunk.words?.[block % chunkBlocks] === block) found++;
        }
      },
      check: (count) => assert.equal(found, count),
    };
  },
};

const write: MicroBench = {
  name: "map: change a block of a map that nobody shares",
  prepare: async () => {
    const map = fullMap();
    const blocks = randomBlocks();
    let at = 0;
    return {
      run(count) {
        for (let done = 0; done < count; done++) {
          const block = blocks[at & 0xffff] as number;
          const { words } = map.writable(Math.floor(block / chunkBlocks));
          if (words !== undefined) words[block % chunkBlocks] = at++;
        }
      },
      check(count) {
        assert.equal(at, count);
        const block = blocks[(count - 1) & 0xffff] as number;
        const chunk = map.lookup(Math.floor(block / chunkBlocks));
        assert.ok(chunk !== undefined && chunk !== "absent");
        assert.equal(chunk.words?.[block % chunkBlocks], count - 1);
      },
    };
  },
};

const share: MicroBench = {
  name: "map: share it, then change a block (copies a chunk, a page, the root)",
  prepare: async () => {
    const map = fullMap();
    const blocks = randomBlocks();
    let [at, copies] = [0, 0];
    return {
      run(count) {
        for (let done = 0; done < count; done++) {
          const block = blocks[at++ & 0xffff] as number;
          const index = Math.floor(block / chunkBlocks);
          const before = map.share();
          const chunk = map.writable(index);
          if (before !== map.root && chunk.words !== undefined) copies++;
        }
      },
      check: (count) => assert.equal(copies, count),
    };
  },
};

export const mapBenches = [lookup, write, share];
