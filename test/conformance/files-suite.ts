import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type ErrorCode, isKelpieError } from "../../src/base/errors.ts";
import type { FileHandle, Files } from "../../src/host/files.ts";

/** Files to test, and an empty directory in them. */
export interface FilesUnderTest extends AsyncDisposable {
  files: Files;
  root: string;
}

/** What every implementation of `Files` must do. Durability is not seen from here. */
export function filesSuite(name: string, create: () => Promise<FilesUnderTest>): void {
  describe(`${name} as Files`, () => {
    readAndWrite(create);
    openAndClose(create);
    names(create);
    directories(create);
    locks(create);
  });
}

function readAndWrite(create: () => Promise<FilesUnderTest>): void {
  it("reads back what was written, chunk after chunk, at any position", async () => {
    await using world = await create();
    await using file = await newFile(world, "a");
    await file.handle.write([text("hello "), text(""), text("world")], 3);
    await file.handle.write([text("HE")], 3);
    assert.equal(await readText(file.handle, 3, 11), "HEllo world");
    assert.deepEqual(await readBytes(file.handle, 0, 3), new Uint8Array(3));
    assert.equal(await file.handle.size(), 14);
  });

  it("completes writes from one byte to megabytes, in one chunk or in thousands", async () => {
    await using world = await create();
    await using file = await newFile(world, "a");
    let position = 0;
    for (const [count, length] of [
      [1, 1],
      [3000, 7],
      [2500, 512],
      [1, 300_000],
      [1, 5_000_001],
    ]) {
      assert(count !== undefined && length !== undefined);
      const chunks = Array.from({ length: count }, (_, index) => pattern(length, index));
      await file.handle.write(chunks, position);
      const read = await readBytes(file.handle, position, count * length);
      assert.ok(equal(read, join(chunks)), `${count} chunks of ${length} bytes`);
      position += count * length;
    }
    assert.equal(await file.handle.size(), position);
  });

  it("reads up to the end of the file and says how much that was", async () => {
    await using world = await create();
    await using file = await newFile(world, "a", "0123456789");
    const target = new Uint8Array(8).fill(0xff);
    assert.equal(await file.handle.read(target, 6), 4);
    assert.deepEqual(target.subarray(0, 4), text("6789"));
    assert.deepEqual(target.subarray(4), new Uint8Array(4).fill(0xff));
    assert.equal(await file.handle.read(target, 10), 0);
    assert.equal(await file.handle.read(target, 1_000_000), 0);
    assert.equal(await file.handle.read(new Uint8Array(0), 0), 0);
  });

  it("answers tryRead with the bytes, or says that it would have to wait", async () => {
    await using world = await create();
    await using file = await newFile(world, "a", "0123456789");
    const target = new Uint8Array(4);
    const answered = file.handle.tryRead(target, 2);
    if (answered) assert.deepEqual(target, text("2345"));
    const over = new Uint8Array(4);
    assert.equal(file.handle.tryRead(over, 8), false, "the file ends before that");
  });

  it("leaves holes as zeros that take no space", async () => {
    await using world = await create();
    await using file = await newFile(world, "a");
    await file.handle.write([text("end")], 8 * 2 ** 20);
    await file.handle.sync();
    assert.deepEqual(await readBytes(file.handle, 2 ** 20, 4096), new Uint8Array(4096));
    const { kind, sizeBytes, allocatedBytes } = await world.files.stat(`${world.root}/a`);
    assert.deepEqual({ kind, sizeBytes }, { kind: "file", sizeBytes: 8 * 2 ** 20 + 3 });
    assert.ok(allocatedBytes > 0 && allocatedBytes <= 64 * 1024, `${allocatedBytes} allocated`);
  });

  it("truncates to less, and what was cut stays zero when the file grows again", async () => {
    await using world = await create();
    await using file = await newFile(world, "a");
    await file.handle.write([pattern(20_000, 1)], 0);
    await file.handle.truncate(5_000);
    assert.equal(await file.handle.size(), 5_000);
    await file.handle.truncate(20_000);
    const expected = new Uint8Array(20_000);
    expected.set(pattern(20_000, 1).subarray(0, 5_000));
    assert.ok(equal(await readBytes(file.handle, 0, 20_000), expected));
  });
}

function openAndClose(create: () => Promise<FilesUnderTest>): void {
  it("opens what exists, creates what does not, and says which it was", async () => {
    await using world = await create();
    const path = `${world.root}/a`;
    await fails("not-found", world.files.open(path, { access: "read" }), path);
    await fails("not-found", world.files.open(path, { access: "write" }), path);
    await fails("not-found", world.files.open(`${world.root}/none/a`, { access: "create" }));
    await using _file = await newFile(world, "a", "x");
    await fails("exists", world.files.open(path, { access: "create" }), path);
  });

  it("does not write through a handle that was opened to read", async () => {
    await using world = await create();
    await (await newFile(world, "a", "x"))[Symbol.asyncDispose]();
    const handle = await world.files.open(`${world.root}/a`, { access: "read" });
    await fails("io", write(handle, text("y"), 0));
    await handle.close();
    assert.deepEqual(await world.files.readFile(`${world.root}/a`), text("x"));
  });

  it("refuses everything on a closed handle, and closing it again is nothing", async () => {
    await using world = await create();
    const { handle } = await newFile(world, "a", "x");
    await handle.close();
    await handle.close();
    await fails("closed", handle.read(new Uint8Array(1), 0));
    await fails("closed", write(handle, text("y"), 0));
    await fails("closed", write(handle, new Uint8Array(2 ** 20), 0));
    await fails("closed", handle.sync());
    await fails("closed", handle.truncate(0));
    await fails("closed", handle.size());
  });

  it("finishes what is in flight before it closes a handle", async () => {
    await using world = await create();
    const { handle } = await newFile(world, "a");
    const writing = handle.write([pattern(4_000_000, 5)], 0);
    const syncing = handle.sync();
    await Promise.all([handle.close(), writing, syncing]);
    assert.ok(equal(await world.files.readFile(`${world.root}/a`), pattern(4_000_000, 5)));
  });

  it("keeps a removed file for the handles that have it open", async () => {
    await using world = await create();
    await using file = await newFile(world, "a", "still here");
    await world.files.remove(`${world.root}/a`);
    await fails("not-found", world.files.readFile(`${world.root}/a`));
    assert.equal(await readText(file.handle, 0, 10), "still here");
    await file.handle.write([text("STILL")], 0);
    await file.handle.sync();
    assert.equal(await readText(file.handle, 0, 10), "STILL here");
  });
}

function names(create: () => Promise<FilesUnderTest>): void {
  it("links a second name to the same file, once", async () => {
    await using world = await create();
    await using file = await newFile(world, "a", "one");
    await using _other = await newFile(world, "taken", "other");
    const [a, b] = [`${world.root}/a`, `${world.root}/b`];
    await world.files.link(a, b);
    await file.handle.write([text("two")], 0);
    assert.deepEqual(await world.files.readFile(b), text("two"));
    await fails("exists", world.files.link(a, b), b);
    await fails("exists", world.files.link(a, `${world.root}/taken`));
    await fails("not-found", world.files.link(`${world.root}/none`, `${world.root}/c`));
    await world.files.remove(a);
    assert.deepEqual(await world.files.readFile(b), text("two"));
  });

  it("lets one of many links to one name win", async () => {
    await using world = await create();
    for (let index = 0; index < 8; index += 1) {
      await (await newFile(world, `from${index}`, `${index}`))[Symbol.asyncDispose]();
    }
    const links = Array.from({ length: 8 }, (_, index) =>
      world.files.link(`${world.root}/from${index}`, `${world.root}/to`),
    );
    const outcomes = await Promise.allSettled(links);
    const winners = outcomes.flatMap(({ status }, index) =>
      status === "fulfilled" ? [index] : [],
    );
    assert.equal(winners.length, 1);
    assert.deepEqual(await world.files.readFile(`${world.root}/to`), text(`${winners[0]}`));
  });

  it("renames over what is there", async () => {
    await using world = await create();
    await (await newFile(world, "a", "new"))[Symbol.asyncDispose]();
    await (await newFile(world, "b", "old"))[Symbol.asyncDispose]();
    await world.files.rename(`${world.root}/a`, `${world.root}/b`);
    assert.deepEqual(await world.files.list(world.root), ["b"]);
    assert.deepEqual(await world.files.readFile(`${world.root}/b`), text("new"));
    await fails("not-found", world.files.rename(`${world.root}/a`, `${world.root}/c`));
  });

  it("removes files and empty directories, nothing else", async () => {
    await using world = await create();
    await world.files.makeDirectory(`${world.root}/d`);
    await (await newFile(world, "d/a"))[Symbol.asyncDispose]();
    await fails("io", world.files.remove(`${world.root}/d`), `${world.root}/d`);
    await world.files.remove(`${world.root}/d/a`);
    await world.files.remove(`${world.root}/d`);
    assert.deepEqual(await world.files.list(world.root), []);
    await fails("not-found", world.files.remove(`${world.root}/d`), `${world.root}/d`);
  });
}

function directories(create: () => Promise<FilesUnderTest>): void {
  it("lists names sorted by code unit", async () => {
    await using world = await create();
    for (const name of ["b", "a.b", "a-b", "B", "10", "9", "ä"]) {
      await (await newFile(world, name))[Symbol.asyncDispose]();
    }
    await world.files.makeDirectory(`${world.root}/a`);
    const expected = ["10", "9", "B", "a", "a-b", "a.b", "b", "ä"];
    assert.deepEqual(await world.files.list(world.root), expected);
    await fails("not-found", world.files.list(`${world.root}/none`), `${world.root}/none`);
  });

  it("says which directories it made, top first", async () => {
    await using world = await create();
    const { files, root } = world;
    assert.deepEqual(await files.makeDirectory(`${root}/a`), [`${root}/a`]);
    const rest = [`${root}/a/b`, `${root}/a/b/c`];
    assert.deepEqual(await files.makeDirectory(`${root}/a/b/c`), rest);
    assert.deepEqual(await files.makeDirectory(`${root}/a/b/c`), []);
    assert.equal((await files.stat(`${root}/a/b/c`)).kind, "directory");
    await (await newFile(world, "file"))[Symbol.asyncDispose]();
    await fails("exists", files.makeDirectory(`${root}/file`), `${root}/file`);
    await files.syncDirectory(`${root}/a/b`);
    await fails("not-found", files.syncDirectory(`${root}/none`), `${root}/none`);
  });

  it("knows how much space there is", async () => {
    await using world = await create();
    const space = await world.files.space(world.root);
    assert.ok(space.freeBytes > 0 && space.freeBytes <= space.totalBytes);
    await fails("not-found", world.files.space(`${world.root}/none`));
  });

  it("says not-found for a path that is not there", async () => {
    await using world = await create();
    await fails("not-found", world.files.stat(`${world.root}/none`), `${world.root}/none`);
    await fails("not-found", world.files.readFile(`${world.root}/none`), `${world.root}/none`);
  });
}

function locks(create: () => Promise<FilesUnderTest>): void {
  it("gives a lock to one holder at a time", async () => {
    await using world = await create();
    const path = `${world.root}/lock`;
    const first = await world.files.lock(path);
    await fails("busy", world.files.lock(path), path);
    await fails("busy", world.files.lock(path), path);
    const other = await world.files.lock(`${world.root}/other`);
    await first.release();
    await first.release();
    const second = await world.files.lock(path);
    await fails("busy", world.files.lock(path), path);
    await second.release();
    await other.release();
    assert.deepEqual(await world.files.list(world.root), ["lock", "other"]);
  });

  it("cannot lock in a directory that is not there", async () => {
    await using world = await create();
    await fails("not-found", world.files.lock(`${world.root}/none/lock`));
  });
}

async function newFile(
  { files, root }: FilesUnderTest,
  name: string,
  content = "",
): Promise<AsyncDisposable & { handle: FileHandle }> {
  const handle = await files.open(`${root}/${name}`, { access: "create" });
  await handle.write([text(content)], 0);
  return { handle, [Symbol.asyncDispose]: () => handle.close() };
}

/** A write that fails at once and one that fails later look the same here. */
async function write(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  await handle.write([bytes], position);
}

async function readBytes(
  handle: FileHandle,
  position: number,
  length: number,
): Promise<Uint8Array> {
  const target = new Uint8Array(length).fill(0xee);
  assert.equal(await handle.read(target, position), length);
  return target;
}

async function readText(handle: FileHandle, position: number, length: number): Promise<string> {
  return new TextDecoder().decode(await readBytes(handle, position, length));
}

async function fails(code: ErrorCode, action: Promise<unknown>, named = ""): Promise<void> {
  await assert.rejects(action, (error: unknown) => {
    assert.ok(isKelpieError(error), String(error));
    assert.equal(error.code, code);
    assert.ok(error.message.includes(named), error.message);
    return true;
  });
}

function text(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}

function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index += 1)
    bytes[index] = (index * 31 + seed * 17 + (index >> 8)) & 0xff;
  return bytes;
}

function join(chunks: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(chunks);
}

/** A difference of megabytes is not worth printing. */
function equal(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}
