import assert from "node:assert/strict";
import * as fs from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { isPending } from "../../base/completion.ts";
import { isKelpieError } from "../../base/errors.ts";
import { immediateWriteBytesMax, NodeFileHandle, Remainder } from "./file-handle.ts";
import { createNodeFiles } from "./files.ts";

describe("a file of this machine", () => {
  let directory = "";
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "kelpie-handle-"));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it("writes up to the limit at once and more on a thread, every byte in both", async () => {
    const path = join(directory, "limit");
    const handle = await createNodeFiles().open(path, { access: "create" });
    const small = new Uint8Array(immediateWriteBytesMax).fill(1);
    const large = new Uint8Array(immediateWriteBytesMax + 1).fill(2);
    assert.equal(isPending(handle.write([small], 0)), false);
    assert.equal(fs.statSync(path).size, small.byteLength, "it is there when write returns");
    const writing = handle.write([large], small.byteLength);
    assert.equal(isPending(writing), true);
    await writing;
    await handle.close();
    const expected = Buffer.concat([small, large]);
    assert.equal(Buffer.compare(await readFile(path), expected), 0);
  });

  it("answers reads at once from a file system in memory, which cannot say what would wait", async () => {
    const path = join("/dev/shm", `kelpie-handle-${process.pid}`);
    const handle = await createNodeFiles().open(path, { access: "create" });
    try {
      await handle.write([Buffer.from("some bytes")], 0);
      const target = Buffer.alloc(4);
      // The first try finds out what file system it is.
      handle.tryRead(target, 0);
      assert.equal(handle.tryRead(target, 5), true);
      assert.equal(target.toString(), "byte");
      assert.equal(handle.tryRead(Buffer.alloc(11), 0), false, "the end is for read to tell");
    } finally {
      await handle.close();
      await rm(path);
    }
  });

  it("says no-space with the path when the device is full", async () => {
    const handle = new NodeFileHandle("/dev/full", fs.openSync("/dev/full", "r+"));
    const isNoSpace = (error: unknown): boolean =>
      isKelpieError(error, "no-space") && error.message.includes("/dev/full");
    assert.throws(() => handle.write([new Uint8Array(1)], 0), isNoSpace);
    const large = new Uint8Array(immediateWriteBytesMax + 1);
    await assert.rejects(async () => handle.write([large], 0), isNoSpace);
    await handle.close();
  });

  it("creates files with the permissions asked for", async () => {
    const path = join(directory, "secret");
    const handle = await createNodeFiles().open(path, { access: "create", permissions: 0o600 });
    await handle.close();
    assert.equal(fs.statSync(path).mode & 0o777, 0o600);
  });
});

describe("what a write has still to do", () => {
  it("is every byte once, however little the system takes each time", () => {
    const lengths = [3, 0, 1, 7, 5, 0, 2];
    let next = 0;
    const chunks = lengths.map((length) => Uint8Array.from({ length }, () => next++));
    const totalBytes = next;
    for (let step = 1; step <= totalBytes + 1; step += 1) {
      const rest = new Remainder(chunks, 100);
      const taken: number[] = [];
      while (!rest.done) {
        assert.equal(rest.position, 100 + taken.length);
        const offered = Buffer.concat(rest.batch());
        assert.equal(offered.byteLength, totalBytes - taken.length);
        const part = offered.subarray(0, step);
        taken.push(...part);
        rest.advance(part.byteLength);
      }
      assert.deepEqual(
        taken,
        Array.from({ length: totalBytes }, (_, index) => index),
      );
    }
  });

  it("is offered in no more chunks than one call may have", () => {
    const rest = new Remainder(
      Array.from({ length: 2_500 }, () => new Uint8Array(2)),
      0,
    );
    const calls: number[] = [];
    while (!rest.done) {
      calls.push(rest.batch().length);
      rest.advance(rest.batch().length * 2);
    }
    assert.deepEqual(calls, [1_024, 1_024, 452]);
  });
});
