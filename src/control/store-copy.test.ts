import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createMemoryHost } from "../../sim/memory-host.ts";
import { openMemoryVdis } from "../../test/support/memory-vdis.ts";
import { bytesOf, closing, S3World, write } from "../../test/support/s3-world.ts";
import { isKelpieError } from "../base/errors.ts";
import type { Backend } from "../store/backend/backend.ts";
import { openDirectoryBackend } from "../store/backend/directory.ts";
import { S3Backend } from "../store/backend/s3.ts";
import { Vdis } from "../vdi/vdis.ts";
import { copyStore } from "./store-copy.ts";

const expected = [1, 2, 3, 4, 5, 6, 7, 8];

/** A store in a directory, with a disk and a snapshot of it. */
async function source() {
  const { vdis } = await openMemoryVdis();
  await vdis.create("disk", 2 ** 24);
  const volume = vdis.volume("disk");
  for (const byte of expected) await write(volume, byte - 1, byte);
  await vdis.snapshot(["disk"], "one");
  await write(volume, 0, 100);
  await volume.flush();
  return vdis;
}

function targetOf(world: S3World): Backend {
  return new S3Backend({}, { ...createMemoryHost({ seed: 9 }), objects: world.bucket.open() });
}

describe("a copy of a store", () => {
  it("is the same store in an object store, and back in a directory", async () => {
    const world = new S3World();
    await copyStore((await source()).store, targetOf(world));
    const machine = await world.open();
    assert.deepEqual(await bytesOf(machine, "disk@one", 8), expected);
    assert.deepEqual(await bytesOf(machine, "disk", 8), expected.with(0, 100));
    const host = createMemoryHost({ seed: 4 });
    const back = await openDirectoryBackend({ root: "/back" }, host);
    await copyStore(machine.store.vdis.store, back);
    await closing(machine);
    const vdis = await Vdis.open({ directory: "/back", create: false }, { host, backend: back });
    const bytes = Buffer.alloc(8 * 4096);
    await vdis.volume("disk").read(bytes, 0);
    const first = expected.map((_, block) => bytes[block * 4096]);
    assert.deepEqual(first, expected.with(0, 100));
    await vdis.close();
  });

  it("is taken up again where it was cut off, and is no store before its end", async () => {
    const world = new S3World();
    const vdis = await source();
    const target = targetOf(world);
    let puts = 0;
    const failing: Backend = {
      ...bound(target),
      putIfAbsent: async (key, chunks) => {
        if (++puts > 3) throw new Error("cut off");
        return await target.putIfAbsent(key, chunks);
      },
    };
    await assert.rejects(copyStore(vdis.store, failing), /cut off/);
    await assert.rejects(world.open({ create: false }), (error) =>
      isKelpieError(error, "not-found"),
    );
    const result = await copyStore(vdis.store, target);
    assert.ok(result.found >= 1, "nothing of the first attempt was found");
    const machine = await world.open();
    assert.deepEqual(await bytesOf(machine, "disk@one", 8), expected);
    await closing(machine);
  });

  it("does not go where there is a store, or a part of a copy of another one", async () => {
    const world = new S3World();
    const target = targetOf(world);
    await target.putIfAbsent("copying", [Buffer.from("somebody")]);
    const refused = (error: unknown) => isKelpieError(error, "exists");
    await assert.rejects(copyStore((await source()).store, target), refused);
    await target.delete("copying");
    await copyStore((await source()).store, target);
    await assert.rejects(copyStore((await source()).store, target), refused);
  });
});

function bound(backend: Backend): Backend {
  return {
    putIfAbsent: (key, chunks) => backend.putIfAbsent(key, chunks),
    get: (key, range) => backend.get(key, range),
    open: (key) => backend.open(key),
    list: (prefix, after) => backend.list(prefix, after),
    delete: (key) => backend.delete(key),
    localPath: (key) => backend.localPath(key),
    close: () => backend.close(),
  };
}
