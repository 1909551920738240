import assert from "node:assert/strict";
import { test } from "node:test";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { SeededRandom } from "../../sim/random.ts";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";
import type { Vdis } from "../vdi/vdis.ts";
import { checkStore } from "./check.ts";

const mebibyte = 2 ** 20;
const diskBlocks = 1024;

async function mustBeClean(vdis: Vdis): Promise<void> {
  const { findings } = await checkStore(vdis.store, { repair: false });
  assert.deepEqual(findings, []);
}

function share(vdis: Vdis): number {
  const { usedBytes, liveBytes } = vdis.store.cleaner.totals();
  return usedBytes / liveBytes;
}

test("a disk that is overwritten at random three times takes less than 1.5 times its size", async () => {
  const { vdis, files } = await openMemoryVdis({ segmentBytesMax: 256 * 1024 });
  await vdis.create("a", 4 * mebibyte);
  const volume = vdis.volume("a");
  const random = new SeededRandom(1);
  const content = new Uint8Array(diskBlocks);
  for (let block = 0; block < diskBlocks; block++) await volume.write(filled(1), block * 4096);
  content.fill(1);
  for (let write = 0; write < 3 * diskBlocks; write++) {
    const block = random.below(diskBlocks);
    content[block] = 2 + (write % 250);
    await volume.write(filled(content[block] as number), block * 4096);
  }
  assert.ok(share(vdis) > 2, "there is something to clean");
  await vdis.store.clean();
  assert.ok(share(vdis) < 1.5, `${share(vdis)}`);
  await mustBeClean(vdis);
  const left = await openMemoryVdis({}, files.crashKeepingNothing());
  for (let block = 0; block < diskBlocks; block++) {
    assert.equal(await byteAt(left.vdis.volume("a"), block * 4096, 4096), content[block]);
  }
  await left.vdis.close();
});

test("deleting every second of a hundred snapshots gives their space back", async () => {
  const { vdis } = await openMemoryVdis({ segmentBytesMax: 64 * 1024 });
  await vdis.create("a", mebibyte);
  const volume = vdis.volume("a");
  const random = new SeededRandom(2);
  for (let taken = 1; taken <= 100; taken++) {
    for (let write = 0; write < 16; write++) {
      await volume.write(filled(taken), random.below(256) * 4096);
    }
    await vdis.snapshot(["a"]);
  }
  const before = vdis.store.cleaner.totals();
  const kept: { snapId: number; bytes: Buffer }[] = [];
  const read = async (snapId: number) => {
    const target = Buffer.alloc(mebibyte);
    await vdis.store.read(vdis.point("a", `#${snapId}`), { target, first: 0 });
    return target;
  };
  for (let snapId = 2; snapId <= 100; snapId += 14)
    kept.push({ snapId, bytes: await read(snapId) });
  for (let snapId = 1; snapId <= 100; snapId += 2) await vdis.deleteSnapshot("a", `${snapId}`);
  await vdis.store.clean();
  const after = vdis.store.cleaner.totals();
  assert.ok(after.liveBytes < before.liveBytes, "blocks that only those held are free");
  assert.ok(share(vdis) < 1.5, `${share(vdis)}`);
  for (const { snapId, bytes } of kept) assert.ok((await read(snapId)).equals(bytes));
  await mustBeClean(vdis);
  await vdis.close();
});

test("cleaning while snapshots are taken and disks are written changes nothing they hold", async () => {
  const { vdis } = await openMemoryVdis({ segmentBytesMax: 64 * 1024 });
  await vdis.create("a", mebibyte);
  const volume = vdis.volume("a");
  const random = new SeededRandom(3);
  const content = new Uint8Array(256);
  const taken: { tag: string; content: Uint8Array }[] = [];
  let isDone = false;
  const cleaning = (async () => {
    while (!isDone) {
      await vdis.store.clean();
      await new Promise(setImmediate);
    }
  })();
  for (let round = 0; round < 12; round++) {
    for (let write = 0; write < 30; write++) {
      const block = random.below(256);
      content[block] = 1 + ((round * 30 + write) % 255);
      await volume.write(filled(content[block] as number), block * 4096);
    }
    const tag = `t${round}`;
    await vdis.snapshot(["a"], tag);
    taken.push({ tag, content: content.slice() });
    await new Promise(setImmediate);
    if (round % 3 === 2) await vdis.deleteSnapshot("a", (taken.shift() as { tag: string }).tag);
  }
  isDone = true;
  await cleaning;
  assert.ok(vdis.store.cleaner.cleaned > 0);
  for (const { tag, content: expected } of taken) {
    const target = Buffer.alloc(mebibyte);
    await vdis.store.read(vdis.point("a", tag), { target, first: 0 });
    for (let block = 0; block < 256; block++) {
      assert.equal(target[block * 4096], expected[block], `block ${block} of ${tag}`);
    }
  }
  await vdis.store.clean();
  await mustBeClean(vdis);
  await vdis.close();
});

test("a block that is overwritten while its segment is cleaned is safe from power loss", async () => {
  const { vdis, files } = await openMemoryVdis({ segmentBytesMax: 32 * 1024 });
  await vdis.create("a", mebibyte);
  const volume = vdis.volume("a");
  for (let block = 0; block < 16; block++) await volume.write(filled(1), block * 4096);
  for (let block = 0; block < 3; block++) await volume.write(filled(2), block * 4096);
  const overwriting: (void | Promise<void>)[] = [];
  const after: string[] = [];
  let left: MemoryFiles | undefined;
  files.before = ({ operation, path }) => {
    if (operation === "open" && path.endsWith("/0000000000000000") && overwriting.length === 0) {
      overwriting.push(volume.write(filled(3), 4 * 4096));
    }
    // The old body has gone, for good, and nothing else has happened since.
    if (after.at(-1) === "syncDirectory" && after.at(-2) === "rename") {
      left ??= files.afterCrash({ kind: "power-loss-keeping-nothing" });
    }
    if (operation === "syncDirectory" || path.startsWith("/store/spare/")) after.push(operation);
  };
  await vdis.store.clean();
  await Promise.all(overwriting);
  assert.ok(left !== undefined && overwriting.length === 1, "a segment was cleaned");
  const { vdis: found } = await openMemoryVdis({}, left);
  const byte = await byteAt(found.volume("a"), 4 * 4096, 4096);
  assert.ok(byte === 1 || byte === 3, "what was there, or what overwrote it");
  assert.equal(await byteAt(found.volume("a"), 5 * 4096, 4096), 1);
  await found.close();
  await vdis.close();
});

test("segment ids are not used twice, whatever was cleaned, also after a restart", async () => {
  const { vdis, files } = await openMemoryVdis({ segmentBytesMax: 32 * 1024 });
  await vdis.create("a", mebibyte);
  const seen = new Set<number>();
  const look = (of: Vdis) => {
    for (const segment of of.store.state.segments.values()) seen.add(segment.id);
  };
  for (let write = 0; write < 40; write++) await vdis.volume("a").write(filled(1), 0);
  look(vdis);
  await vdis.store.clean();
  await vdis.close();
  const again = await openMemoryVdis({ segmentBytesMax: 32 * 1024 }, files.crashKeepingNothing());
  const old = new Set([...again.vdis.store.state.segments.values()].map(({ id }) => id));
  await again.vdis.volume("a").write(filled(2), 4096);
  const fresh = [...again.vdis.store.state.segments.values()].filter(({ id }) => !old.has(id));
  assert.equal(fresh.length, 1);
  assert.ok(fresh.every(({ id }) => !seen.has(id)));
  await again.vdis.close();
});
