import assert from "node:assert/strict";
import { test } from "node:test";
import { isKelpieError } from "../../src/base/errors.ts";
import type { FileHandle, Files, OpenMode } from "../../src/host/files.ts";
import { StoreWorld } from "../store/store-world.ts";

/**
 * Every place that makes something durable, by the function that does it. Each is taken away in turn,
 * and power is cut: the model must notice. A sync that nobody misses is not needed, or not tested.
 */
const syncs: { name: string; operation: "sync" | "syncDirectory"; caller: RegExp }[] = [
  { name: "a segment's data", operation: "sync", caller: /#syncSegment/ },
  { name: "a segment's name", operation: "syncDirectory", caller: /#syncSegment/ },
  { name: "a log's directory", operation: "syncDirectory", caller: /SegmentFiles\.makeDirectory/ },
  { name: "data that a failed sync lost", operation: "sync", caller: /#syncRewritten/ },
  { name: "its new segment's name", operation: "syncDirectory", caller: /#syncRewritten/ },
  { name: "what recovery found", operation: "sync", caller: /recover-log/ },
  { name: "names of what recovery found", operation: "syncDirectory", caller: /recover-log/ },
  { name: "an object of the backend", operation: "sync", caller: /directory\.ts/ },
  { name: "an object's name", operation: "syncDirectory", caller: /directory(-tree)?\.ts/ },
];

for (const { name, operation, caller } of syncs) {
  test(`without the sync of ${name} the model finds data lost`, async () => {
    let dropped = 0;
    const found = await firstViolation((op, stack) => {
      if (op !== operation || !caller.test(callerOf(stack))) return false;
      dropped++;
      return true;
    });
    assert.ok(dropped > 0, "the sync was never asked for: the table names a function that is gone");
    assert.ok(found !== undefined, "no world noticed that it was missing");
  });
}

test("with every sync in its place no world finds anything", async () => {
  assert.equal(await firstViolation(() => false, 12), undefined);
});

type Drop = (operation: "sync" | "syncDirectory", stack: string) => boolean;

async function firstViolation(drop: Drop, worlds = 40): Promise<string | undefined> {
  for (let seed = 1; seed <= worlds; seed++) {
    const world = new SyncDroppingWorld(seed, drop);
    try {
      await runHistory(world);
    } catch (error) {
      return `seed ${seed}: ${(error as Error).message}`;
    }
  }
  return undefined;
}

/** Short, with much that has to be durable, and power cut often. */
async function runHistory(world: SyncDroppingWorld): Promise<void> {
  const { random } = world;
  await world.open();
  await world.addDisk("a");
  for (let round = 0; round < 6; round++) {
    const disk = world.disks[0];
    assert.ok(disk !== undefined);
    for (let step = 0; step < 12; step++) {
      const choice = random.below(12);
      if (choice === 0) await world.snapshot([disk]).catch(unlessDiskFailed);
      else if (choice === 1) await world.store.checkpoint().catch(unlessDiskFailed);
      else if (choice === 2) world.failNextSync();
      else if (choice === 3) await world.flush(disk);
      else await world.write(disk);
    }
    await world.flush(disk);
    const write = world.write(disk).catch(() => {});
    await write;
    // First the death of the process alone, so that recovery itself has something to make durable.
    if (random.below(3) === 0) {
      await world.crash("everything");
      const again = world.disks[0];
      assert.ok(again !== undefined);
      await world.write(again);
      await world.flush(again);
    }
    await world.crash(random.below(2) === 0 ? "nothing" : "random");
  }
}

/** A snapshot or checkpoint may fail when the disk under it does; nothing else is wrong then. */
function unlessDiskFailed(error: unknown): void {
  if (!isKelpieError(error, "io")) throw error;
}

class SyncDroppingWorld extends StoreWorld {
  readonly #drop: Drop;

  constructor(seed: number, drop: Drop) {
    super(seed, { segmentBytesMax: 64 * 1024 });
    this.#drop = drop;
  }

  protected override filesFor(files: Files): Files {
    return droppingFiles(files, this.#drop);
  }

  failNextSync(): void {
    this.host.files.fail({ operation: "sync", on: (path) => path.includes("/logs/") });
  }
}

function droppingFiles(files: Files, drop: Drop): Files {
  return {
    open: async (path, mode: OpenMode) => droppingHandle(await files.open(path, mode), drop),
    readFile: (path) => files.readFile(path),
    list: (path) => files.list(path),
    stat: (path) => files.stat(path),
    makeDirectory: (path) => files.makeDirectory(path),
    link: (from, to) => files.link(from, to),
    rename: (from, to) => files.rename(from, to),
    remove: (path) => files.remove(path),
    space: (path) => files.space(path),
    lock: (path) => files.lock(path),
    syncDirectory: async (path) => {
      if (!drop("syncDirectory", new Error().stack ?? "")) await files.syncDirectory(path);
    },
  };
}

function droppingHandle(handle: FileHandle, drop: Drop): FileHandle {
  return {
    path: handle.path,
    tryRead: (target, position) => handle.tryRead(target, position),
    read: (target, position) => handle.read(target, position),
    write: (chunks, position) => handle.write(chunks, position),
    truncate: (size) => handle.truncate(size),
    size: () => handle.size(),
    close: () => handle.close(),
    sync: async () => {
      if (!drop("sync", new Error().stack ?? "")) await handle.sync();
    },
  };
}

/** The first two frames below the wrapper itself: a call may go through one that only knows the path. */
function callerOf(stack: string): string {
  const frames = stack.split("\n").slice(1);
  const below = frames.filter((frame) => !frame.includes("missing-sync.test.ts"));
  return below.slice(0, 2).join("\n");
}
