import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost } from "../../sim/memory-host.ts";
import { contentOf, directory, LogWorld, start } from "../../test/store/log-world.ts";
import { openDirectoryBackend } from "./backend/directory.ts";
import { recoverLog } from "./recover-log.ts";

const unit = 512;
const batchBytes = unit + 4096;
type Contents = Map<string, Uint8Array>;

async function contentsOf(files: MemoryFiles): Promise<Contents> {
  const contents: Contents = new Map();
  for (const name of await files.list(directory)) {
    contents.set(name, await files.readFile(`${directory}/${name}`));
  }
  return contents;
}

async function filesWith(contents: Contents): Promise<MemoryFiles> {
  const files = new MemoryFiles();
  await files.makeDirectory(directory);
  for (const [name, bytes] of contents) {
    const handle = await files.open(`${directory}/${name}`, { access: "create" });
    await handle.write([bytes], 0);
    await handle.sync();
    await handle.close();
  }
  for (const path of ["/", "/store", "/store/logs", directory]) await files.syncDirectory(path);
  return files;
}

async function recoverFrom(files: MemoryFiles, acceptDamage = false) {
  const host = createMemoryHost({ seed: 3, files });
  const backend = await openDirectoryBackend({ root: "/store" }, host);
  return recoverLog(start, { backend, files, acceptDamage });
}

function name(segment: number): string {
  return segment.toString(16).padStart(16, "0");
}

/** Blocks 0 … written one batch each, with byte block + 1; each number in `flushAt` is flushed after. */
async function written(
  blocks: number,
  options: { flushAt?: number[]; segmentBytesMax?: number } = {},
): Promise<Contents> {
  const { flushAt = [], segmentBytesMax = 2 ** 20 } = options;
  const world = new LogWorld({ segmentBytesMax });
  for (let block = 0; block < blocks; block++) {
    await world.write(block, block + 1);
    if (flushAt.includes(block)) await world.writer.flush();
    // Seals are written in the background.
    await new Promise(setImmediate);
  }
  return contentsOf(world.files);
}

function upTo(blocks: number): Map<number, number> {
  return new Map(Array.from({ length: blocks }, (_, block) => [block, block + 1]));
}

test("a last batch that is cut short at any byte is left out, with nothing behind it", async () => {
  const whole = (await written(3)).get(name(0)) as Uint8Array;
  const lastAt = whole.length - batchBytes;
  assert.equal(lastAt, unit + 2 * batchBytes);
  for (let cut = 0; cut < batchBytes; cut += cut < unit + 2 ? 1 : 61) {
    const files = await filesWith(new Map([[name(0), whole.subarray(0, lastAt + cut)]]));
    const { pieces, damage } = await recoverFrom(files);
    assert.equal(damage, undefined);
    assert.equal(pieces.at(-1)?.endUnits, lastAt / unit, `cut at ${cut}`);
    const { sizeBytes } = await files.stat(`${directory}/${name(0)}`);
    assert.equal(sizeBytes, lastAt, "the tail is cut off");
  }
});

test("a last batch with any byte of it different is left out", async () => {
  const whole = (await written(3)).get(name(0)) as Uint8Array;
  const lastAt = whole.length - batchBytes;
  for (let at = 0; at < batchBytes; at += at < 90 ? 1 : 53) {
    const bytes = Buffer.from(whole);
    bytes[lastAt + at] = (bytes[lastAt + at] as number) ^ (1 + (at % 255));
    const { pieces } = await recoverFrom(await filesWith(new Map([[name(0), bytes]])));
    assert.equal(pieces.at(-1)?.endUnits, lastAt / unit, `byte ${at}`);
  }
});

test("a batch that was written behind a cut and never synced does not come back to life", async () => {
  const longer = (await written(4)).get(name(0)) as Uint8Array;
  // The third batch is written anew, of the same length and with other content, after the second.
  const world = new LogWorld();
  for (const [block, byte] of [
    [0, 1],
    [1, 2],
    [2, 99],
  ] as const) {
    await world.write(block, byte);
  }
  const anew = (await contentsOf(world.files)).get(name(0)) as Uint8Array;
  // On the disk: the new third batch, and behind it the old fourth.
  const bytes = Buffer.concat([anew, longer.subarray(anew.length)]);
  const content = await contentOf(await filesWith(new Map([[name(0), bytes]])));
  assert.deepEqual(content, upTo(2).set(2, 99));
});

test("a segment without the one that it continues is nothing, and is removed", async () => {
  const contents = await written(12, { segmentBytesMax: 20 * 1024 });
  assert.ok(contents.size >= 3);
  contents.delete(name(1));
  const files = await filesWith(contents);
  const { pieces, removed, damage } = await recoverFrom(files);
  assert.equal(damage, undefined, "nothing of it was known to be synced");
  assert.deepEqual(
    pieces.map((piece) => piece.number),
    [0],
  );
  assert.deepEqual(removed, [2]);
  assert.deepEqual(await files.list(directory), [name(0)]);
  // What is left is whole: the next opening finds the same.
  assert.equal((await recoverFrom(files)).pieces.length, 1);
});

test("a segment that is gone though it had been synced is damage, and nothing is removed", async () => {
  const contents = await written(12, { segmentBytesMax: 20 * 1024, flushAt: [3, 7, 8, 10] });
  for (const gone of [0, 1]) {
    const left = new Map(contents);
    left.delete(name(gone));
    const files = await filesWith(left);
    const { damage } = await recoverFrom(files);
    assert.match(damage ?? "none", /breaks off|synced/, `segment ${gone} is gone`);
    assert.deepEqual(await files.list(directory), [...left.keys()].sort());
  }
});

test("sealed and synced segments are read by their summaries alone", async () => {
  const blocks = 240;
  const contents = await written(blocks, { segmentBytesMax: 2 ** 18, flushAt: [236, 238] });
  const files = await filesWith(contents);
  const before = files.count("read");
  const { pieces } = await recoverFrom(files);
  assert.ok(pieces.length >= 4);
  const reads = files.count("read") - before;
  assert.ok(reads < pieces.length * 12, `${reads} reads for ${blocks} batches`);
  assert.deepEqual(await contentOf(files), upTo(blocks));
});

test("damage before what had been synced is reported, and cut only if it is accepted", async () => {
  const more = await written(12, { segmentBytesMax: 24 * 1024, flushAt: [3, 4, 6, 8, 9] });
  const damaged = Buffer.from(more.get(name(1)) as Uint8Array);
  damaged.fill(0xff, unit, unit + 100);
  const copy = await filesWith(new Map([...more, [name(1), damaged]]));
  const refused = await recoverFrom(copy);
  assert.match(refused.damage ?? "none", /breaks off at/);
  const untouched = await contentsOf(copy);
  for (const [segment, at] of new Map([...more, [name(1), damaged]])) {
    assert.ok(Buffer.from(at).equals(untouched.get(segment) as Uint8Array), "nothing was changed");
  }
  const accepted = await recoverFrom(copy, true);
  assert.ok(accepted.damage !== undefined);
  assert.equal((await recoverFrom(copy)).damage, undefined, "now it is whole again");
  assert.ok((await contentOf(copy)).size > 0);
});

test("a damaged header before what had been synced is told by the headers behind it", async () => {
  const contents = await written(12, { flushAt: [9] });
  const bytes = Buffer.from(contents.get(name(0)) as Uint8Array);
  // The fourth batch's header: nothing leads from there to the claims that come later.
  const at = unit + 3 * batchBytes + 100;
  bytes[at] = (bytes[at] as number) ^ 1;
  contents.set(name(0), bytes);
  const files = await filesWith(contents);
  const { damage } = await recoverFrom(files);
  assert.match(damage ?? "", /breaks off at/);
  assert.deepEqual(await files.readFile(`${directory}/${name(0)}`), new Uint8Array(bytes));
});

test("recovery that is cut off at any operation leaves the same to recover", async () => {
  const contents = await written(9, { segmentBytesMax: 20 * 1024, flushAt: [2] });
  const last = [...contents.keys()].sort().at(-1) as string;
  const torn = (contents.get(last) as Uint8Array).subarray(0, -1000);
  const all: Contents = new Map([...contents, [last, torn], [name(9), Buffer.alloc(700, 1)]]);
  const expected = await contentOf(await filesWith(all));
  assert.equal(expected.size, 8);
  for (let stopAt = 1; ; stopAt++) {
    const files = await filesWith(all);
    let operations = 0;
    let left: MemoryFiles | undefined;
    files.before = () => {
      if (++operations === stopAt) left = files.crashKeepingNothing();
    };
    const done = await recoverFrom(files).then(
      () => true,
      () => false,
    );
    if (left === undefined) {
      assert.ok(done && stopAt > 20, `${stopAt} operations`);
      break;
    }
    assert.deepEqual(await contentOf(left), expected, `power was cut at operation ${stopAt}`);
  }
});

test("whichever removed segments power loss brings back, recovery gives the same", async () => {
  const contents = await written(12, { segmentBytesMax: 12 * 1024 });
  assert.equal(contents.size, 6);
  const torn = (contents.get(name(2)) as Uint8Array).subarray(0, unit + batchBytes + 100);
  const before: Contents = new Map([...contents, [name(2), torn]]);
  const files = await filesWith(before);
  assert.deepEqual(await contentOf(files), upTo(5));
  const after = await contentsOf(files);
  assert.deepEqual([...after.keys()], [0, 1, 2].map(name));
  const removed = [3, 4, 5].map(name);
  for (let subset = 0; subset < 2 ** removed.length; subset++) {
    const isBack = (_: string, at: number): boolean => (subset & (1 << at)) !== 0;
    const back = removed.filter(isBack).map((at) => [at, contents.get(at) as Uint8Array] as const);
    // With the tail cut off already, and with the cut lost as well.
    for (const kept of [after, new Map([...before].filter(([at]) => after.has(at)))]) {
      const left = await filesWith(new Map([...kept, ...back]));
      assert.deepEqual(await contentOf(left), upTo(5), `${back.map(([at]) => at)} are back`);
    }
  }
});

test("what recovery found is durable, and so is the name of its file", async () => {
  const world = new LogWorld();
  await world.write(0, 1);
  // The process dies, and nothing was synced: not the segment, nor that there is one.
  const left = world.files.crashKeepingEverything();
  assert.deepEqual(await contentOf(left), upTo(1));
  assert.deepEqual(await contentOf(left.crashKeepingNothing()), upTo(1));
});

test("a log that does not exist yet has nothing", async () => {
  const files = new MemoryFiles();
  await files.makeDirectory("/store");
  assert.deepEqual(await recoverFrom(files), {
    pieces: [],
    removed: [],
    local: new Set(),
    damage: undefined,
  });
});
