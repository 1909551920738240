import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MemoryFiles } from "../../../sim/memory-files.ts";
import { isKelpieError, KelpieError } from "../../base/errors.ts";
import { CacheBudget } from "./cache-budget.ts";
import { ObjectCache, type PieceSource } from "./object-cache.ts";

const key = "logs/0000000000000001/0000000000000001";
const pieceBytes = 1024;

/** An object of so many bytes, of which byte n is n / 1024 or so. */
class Source implements PieceSource {
  readonly content: Buffer;
  readonly requests: { offset: number; length: number }[] = [];
  sizes = 0;

  constructor(sizeBytes: number) {
    this.content = Buffer.from(Array.from({ length: sizeBytes }, (_, at) => (at >> 8) + at));
  }

  async getPart(_key: string, range: { offset: number; length: number }) {
    this.requests.push(range);
    await new Promise(setImmediate);
    const bytes = this.content.subarray(range.offset, range.offset + range.length);
    return { bytes: Buffer.from(bytes), totalBytes: this.content.length };
  }

  async sizeOf(name: string): Promise<number> {
    this.sizes++;
    if (name !== key) throw new KelpieError("not-found", name);
    return this.content.length;
  }
}

async function open(source: Source, files = new MemoryFiles(), limitBytes = 2 ** 20) {
  const budget = new CacheBudget({ directory: "/", limitBytes }, { files });
  const cache = new ObjectCache({ directory: "/cache", pieceBytes }, { files, budget, source });
  await cache.load();
  return { cache, budget, reader: await cache.open(key), files };
}

describe("a cache of objects", () => {
  it("gives every range of an object, and knows where it ends", async () => {
    const source = new Source(5_000);
    const { reader } = await open(source);
    for (const [offset, length] of [
      [0, 10],
      [1_020, 10],
      [900, 3_000],
      [4_990, 100],
      [0, 5_000],
    ] as const) {
      const target = Buffer.alloc(length);
      const read = await reader.read(target, offset);
      const expected = source.content.subarray(offset, offset + length);
      assert.deepEqual(target.subarray(0, read), expected);
    }
    assert.equal(await reader.size(), 5_000);
    assert.equal(await reader.read(Buffer.alloc(10), 5_000), 0);
  });

  it("asks once for what many miss at the same time, and once for pieces side by side", async () => {
    const source = new Source(10_000);
    const { reader } = await open(source);
    const reads = Array.from({ length: 50 }, () => reader.read(Buffer.alloc(3_000), 0));
    await Promise.all(reads);
    assert.deepEqual(source.requests, [{ offset: 0, length: 3_072 }]);
    assert.ok(reader.tryRead(Buffer.alloc(100), 1_200));
  });

  it("has after a restart what it had before, and asks for nothing", async () => {
    const source = new Source(4_000);
    const first = await open(source);
    await first.reader.read(Buffer.alloc(4_000), 0);
    await first.cache.close();
    const again = new Source(4_000);
    const second = await open(again, first.files);
    const target = Buffer.alloc(4_000);
    assert.equal(await second.reader.read(target, 0), 4_000);
    assert.deepEqual(target, source.content);
    assert.deepEqual([again.requests.length, again.sizes], [0, 0]);
  });

  it("fetches again what power loss or a bad disk made of its files", async () => {
    const source = new Source(4_000);
    const first = await open(source);
    await first.reader.read(Buffer.alloc(4_000), 0);
    const [name] = await first.files.list("/cache");
    const handle = await first.files.open(`/cache/${name}`, { access: "write" });
    await handle.write([Buffer.from("damage")], 100);
    const second = await open(source, first.files.crashKeepingEverything());
    const target = Buffer.alloc(4_000);
    assert.equal(await second.reader.read(target, 0), 4_000);
    assert.deepEqual(target, source.content);
    const third = await open(source, second.files.crashKeepingNothing());
    assert.equal(await third.reader.read(target, 0), 4_000);
    assert.deepEqual(target, source.content);
  });

  it("keeps to its size, and lets go of what was not used", async () => {
    const source = new Source(40_000);
    const { reader, budget, files } = await open(source, new MemoryFiles(), 10_000);
    for (let at = 0; at < 40_000; at += 1_000) {
      await reader.read(Buffer.alloc(100), at);
      // The first piece is used all the time.
      await reader.read(Buffer.alloc(100), 0);
      assert.ok(budget.usedBytes <= 10_000 + pieceBytes);
    }
    assert.ok(reader.tryRead(Buffer.alloc(100), 0));
    assert.ok((await files.list("/cache")).length <= 10);
  });

  it("reads ahead for who reads in order, and not for who jumps about", async () => {
    const source = new Source(100_000);
    const { reader } = await open(source);
    for (let at = 0; at < 90_000; at += 500) {
      await reader.read(Buffer.alloc(500), at);
      await new Promise(setImmediate);
    }
    const inOrder = source.requests.length;
    assert.ok(inOrder <= 25, `${inOrder} requests for 88 pieces`);
    const jumpy = new Source(100_000);
    const other = await open(jumpy);
    for (let at = 0; at < 30; at++) {
      await other.reader.read(Buffer.alloc(100), ((at * 37) % 97) * 1_024);
    }
    const asked = jumpy.requests.reduce((sum, { length }) => sum + length, 0);
    assert.equal(asked, 30 * pieceBytes);
  });

  it("says not-found for what is not there, and forgets what is dropped", async () => {
    const source = new Source(4_000);
    const { cache, reader, files } = await open(source);
    await assert.rejects(cache.open("logs/none"), (error) => isKelpieError(error, "not-found"));
    await reader.read(Buffer.alloc(4_000), 0);
    await cache.drop(key);
    assert.deepEqual(await files.list("/cache"), []);
  });
});
