import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { FileHandle } from "../src/host/files.ts";
import { contentOf, create, fails, text } from "../test/support/memory-files.ts";
import { MemoryFiles } from "./memory-files.ts";

describe("faults, space and counts of memory files", () => {
  it("fail the n-th operation of a kind, as often as asked, on the paths asked for", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "");
    const other = await create(files, "/other", "");
    files.fail({ operation: "write", nth: 2, times: 2, on: (path) => path === "/a" });
    const write = async (to: FileHandle, content: string) => to.write([text(content)], 0);
    await write(other, "other");
    await write(handle, "1");
    await fails("io", () => write(handle, "2"));
    await write(other, "OTHER");
    await fails("io", () => write(handle, "3"));
    assert.equal(await contentOf(files, "/a"), "1");
    await write(handle, "4");
    assert.equal(await contentOf(files, "/a"), "4");
  });

  it("can write a part of what fails", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "");
    files.fail({ operation: "write", code: "no-space", writtenBytes: 4 });
    await fails("no-space", async () => handle.write([text("123"), text("456")], 0));
    assert.equal(await contentOf(files, "/a"), "1234");
  });

  it("show a fault of a read to tryRead's caller through read", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "1234");
    const target = new Uint8Array(4);
    assert.equal(handle.tryRead(target, 0), true);
    files.fail({ operation: "read" });
    assert.equal(handle.tryRead(target, 0), false);
    await fails("io", () => handle.read(target, 0));
    assert.equal(handle.tryRead(target, 0), true);
  });

  it("take what fits on a full disk, and more once something is removed", async () => {
    const files = new MemoryFiles({ capacityBytes: 40_960 });
    const handle = await create(files, "/a", "");
    await handle.write([new Uint8Array(30_000)], 0);
    assert.deepEqual(await files.space("/"), { totalBytes: 40_960, freeBytes: 8_192 });
    await fails("no-space", async () => handle.write([new Uint8Array(30_000)], 30_000));
    assert.equal((await files.space("/")).freeBytes, 0);
    assert.equal(await handle.size(), 40_960);
    await handle.write([text("overwriting takes no space")], 0);
    const other = await create(files, "/b", "");
    await fails("no-space", async () => other.write([text("x")], 0));
    await files.remove("/a");
    await fails("no-space", async () => other.write([text("x")], 0));
    await handle.close();
    await other.write([text("x")], 0);
    assert.equal((await files.space("/")).freeBytes, 36_864);
    await other.truncate(0);
    assert.equal((await files.space("/")).freeBytes, 40_960);
  });

  it("have the room that is left to them now, and count what does not fit", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "data");
    files.leaveRoom(files.fullness.usedBytes);
    await fails("no-space", async () => handle.write([text("more")], 4096));
    await handle.write([text("DATA")], 0);
    assert.deepEqual(files.fullness, { usedBytes: 4096, refusals: 1 });
    files.leaveRoom(2 ** 20);
    await handle.write([text("more")], 4096);
    assert.deepEqual(files.fullness, { usedBytes: 8192, refusals: 1 });
    assert.equal((await files.space("/")).freeBytes, 2 ** 20 - 8192);
  });

  it("know the free space after a crash", async () => {
    const files = new MemoryFiles({ capacityBytes: 40_960 });
    await (await create(files, "/a", "kept")).sync();
    await files.link("/a", "/b");
    await files.syncDirectory("/");
    await create(files, "/c", "lost");
    const left = files.crashKeepingNothing();
    assert.deepEqual(await left.space("/"), { totalBytes: 40_960, freeBytes: 36_864 });
  });

  it("tell every operation before it happens, and count it", async () => {
    const files = new MemoryFiles();
    const told: string[] = [];
    files.before = ({ operation, path }) => {
      told.push(`${operation} ${path}`);
    };
    const handle = await create(files, "/a", "x");
    await handle.sync();
    await files.rename("/a", "/b");
    await files.syncDirectory("/");
    await handle.close();
    const expected = ["open /a", "write /a", "sync /a", "rename /b", "syncDirectory /", "close /a"];
    assert.deepEqual(told, expected);
    assert.equal(files.count("sync"), 1);
    assert.equal(files.count("list"), 0);
    const counts = { open: 1, write: 1, sync: 1, rename: 1, syncDirectory: 1, close: 1 };
    assert.deepEqual(files.counts(), counts);
  });

  it("let a test crash them in the middle of an operation, which then does nothing", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "before");
    let left: MemoryFiles | undefined;
    files.before = () => {
      left = files.crashKeepingEverything();
    };
    await fails("closed", async () => handle.write([text("after!")], 0));
    assert.ok(left !== undefined);
    assert.equal(await contentOf(left, "/a"), "before");
  });
});
