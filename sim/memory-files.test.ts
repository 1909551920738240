import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { contentOf, create, fails, text } from "../test/support/memory-files.ts";
import { MemoryFiles } from "./memory-files.ts";
import { SeededRandom } from "./random.ts";

describe("memory files after a power failure that keeps only what was synced", () => {
  it("have the data of a synced file whose name was synced", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "synced");
    await handle.sync();
    await files.syncDirectory("/");
    await handle.write([text("SYN")], 0);
    await handle.write([text(" and more")], 6);
    const left = files.crashKeepingNothing();
    assert.equal(await contentOf(left, "/a"), "synced");
  });

  it("have an empty file if its name was synced and its data was not", async () => {
    const files = new MemoryFiles();
    await create(files, "/a", "data");
    await files.syncDirectory("/");
    assert.equal(await contentOf(files.crashKeepingNothing(), "/a"), "");
  });

  it("do not have a file whose data was synced and whose name was not", async () => {
    const files = new MemoryFiles();
    await (await create(files, "/a", "data")).sync();
    assert.deepEqual(await files.crashKeepingNothing().list("/"), []);
  });

  it("need every directory on the way synced, each in the one above it", async () => {
    for (const forgotten of ["/", "/a", "/a/b"]) {
      const files = new MemoryFiles();
      await files.makeDirectory("/a/b");
      await (await create(files, "/a/b/c", "x")).sync();
      for (const path of ["/", "/a", "/a/b"]) {
        if (path !== forgotten) await files.syncDirectory(path);
      }
      await assert.rejects(files.crashKeepingNothing().readFile("/a/b/c"), forgotten);
    }
  });

  it("have a removed file again until its directory is synced", async () => {
    const files = new MemoryFiles();
    await (await create(files, "/a", "x")).sync();
    await files.syncDirectory("/");
    await files.remove("/a");
    assert.deepEqual(await files.list("/"), []);
    const back = files.crashKeepingNothing();
    assert.equal(await contentOf(back, "/a"), "x");
    await back.remove("/a");
    await back.syncDirectory("/");
    assert.deepEqual(await back.crashKeepingNothing().list("/"), []);
  });

  it("have one file behind two names that were synced", async () => {
    const files = new MemoryFiles();
    await (await create(files, "/a", "x")).sync();
    await files.link("/a", "/b");
    await files.syncDirectory("/");
    const left = files.crashKeepingNothing();
    const handle = await left.open("/b", { access: "write" });
    await handle.write([text("y")], 0);
    assert.equal(await contentOf(left, "/a"), "y");
  });

  it("have a truncation only after a sync", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "0123456789".repeat(1_000));
    await handle.sync();
    await files.syncDirectory("/");
    await handle.truncate(5);
    const [before, after] = [files.crashKeepingEverything(), "01234"];
    const reopened = await before.open("/a", { access: "write" });
    assert.equal(await contentOf(before, "/a"), after);
    await reopened.sync();
    assert.equal(await contentOf(before.crashKeepingNothing(), "/a"), after);
    const unsynced = new MemoryFiles();
    const other = await create(unsynced, "/a", "0123456789");
    await other.sync();
    await unsynced.syncDirectory("/");
    await other.truncate(5);
    assert.equal(await contentOf(unsynced.crashKeepingNothing(), "/a"), "0123456789");
  });

  it("do not have what was written while a sync was on its way", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "before");
    await files.syncDirectory("/");
    const gate = holdNext(files, "sync");
    const syncing = handle.sync();
    await handle.write([text("AFTER!, and more")], 0);
    gate.open();
    await syncing;
    assert.equal(await contentOf(files, "/a"), "AFTER!, and more");
    assert.equal(await contentOf(files.crashKeepingNothing(), "/a"), "before");
  });

  it("do not have a name that was made while a sync of the directory was on its way", async () => {
    const files = new MemoryFiles();
    await create(files, "/a", "");
    const gate = holdNext(files, "syncDirectory");
    const syncing = files.syncDirectory("/");
    await create(files, "/b", "");
    gate.open();
    await syncing;
    assert.deepEqual(await files.crashKeepingNothing().list("/"), ["a"]);
  });

  it("do not have what a sync was about to make durable when power went", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "data");
    await files.syncDirectory("/");
    holdNext(files, "sync");
    void handle.sync().catch(() => {});
    assert.equal(await contentOf(files.crashKeepingNothing(), "/a"), "");
  });
});

describe("memory files after the death of the process", () => {
  it("have everything, and can still lose what was not synced", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "synced");
    await handle.sync();
    await files.syncDirectory("/");
    await handle.write([text(" and not")], 6);
    await create(files, "/b", "neither");
    const died = files.crashKeepingEverything();
    assert.equal(await contentOf(died, "/a"), "synced and not");
    assert.equal(await contentOf(died, "/b"), "neither");
    const twice = died.crashKeepingEverything();
    const lost = twice.crashKeepingNothing();
    assert.deepEqual(await lost.list("/"), ["a"]);
    assert.equal(await contentOf(lost, "/a"), "synced");
  });

  it("can make durable what the dead process had written", async () => {
    const files = new MemoryFiles();
    await create(files, "/a", "from the dead");
    const died = files.crashKeepingEverything();
    await (await died.open("/a", { access: "write" })).sync();
    await died.syncDirectory("/");
    assert.equal(await contentOf(died.crashKeepingNothing(), "/a"), "from the dead");
  });

  it("do not see what goes on on the disk that they are a copy of", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "before");
    const kinds = [{ kind: "process-death" }, { kind: "power-loss-keeping-nothing" }] as const;
    await files.syncDirectory("/");
    await handle.sync();
    const copies = kinds.map((crash) => files.afterCrash(crash));
    await handle.write([text("after!")], 0);
    await files.rename("/a", "/b");
    for (const copy of copies) assert.equal(await contentOf(copy, "/a"), "before");
    assert.equal(await contentOf(files, "/b"), "after!");
    assert.equal(await contentOf(files.crashKeepingNothing(), "/a"), "before");
  });

  it("are free of the locks and handles of before, which touch nothing any more", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "old");
    const lock = await files.lock("/lock");
    const died = files.crashKeepingEverything();
    await (await died.lock("/lock")).release();
    await fails("closed", async () => handle.write([text("new")], 0));
    await fails("closed", () => handle.sync());
    await fails("closed", () => handle.read(new Uint8Array(1), 0));
    await fails("closed", () => files.list("/"));
    await lock.release();
    assert.equal(await contentOf(died, "/a"), "old");
  });
});

describe("memory files after a power failure that keeps some of what was not synced", () => {
  it("tear writes at sectors, and nowhere else", async () => {
    const seen = await outcomes(200, async (seed) => {
      const files = new MemoryFiles();
      const handle = await create(files, "/a", "");
      await handle.write([new Uint8Array(2_048).fill(1)], 0);
      await handle.sync();
      await files.syncDirectory("/");
      await handle.write([new Uint8Array(2_048).fill(2)], 0);
      const bytes = await files.crash(new SeededRandom(seed)).readFile("/a");
      assert.equal(bytes.byteLength, 2_048);
      return sectorsOf(bytes);
    });
    assert.equal(seen.size, 16, "four sectors survive independently, in every combination");
    for (const outcome of seen) assert.match(outcome, /^[12]{4}$/);
  });

  it("lose a tail, all of it, part of it or the sectors in its middle", async () => {
    const seen = await outcomes(400, async (seed) => {
      const files = new MemoryFiles();
      const handle = await create(files, "/a", "");
      await handle.write([new Uint8Array(512).fill(1)], 0);
      await handle.sync();
      await files.syncDirectory("/");
      await handle.write([new Uint8Array(1_024).fill(2)], 512);
      return sectorsOf(await files.crash(new SeededRandom(seed)).readFile("/a"));
    });
    assert.deepEqual([...seen].sort(), ["1", "10", "100", "102", "12", "120", "122"]);
  });

  it("may have a version between the last sync and the newest", async () => {
    const seen = await outcomes(100, async (seed) => {
      const files = new MemoryFiles();
      const handle = await create(files, "/a", "");
      for (const value of [1, 2, 3]) {
        await handle.write([new Uint8Array(512).fill(value)], 0);
        if (value === 1) await handle.sync();
      }
      await files.syncDirectory("/");
      return sectorsOf(await files.crash(new SeededRandom(seed)).readFile("/a"));
    });
    assert.deepEqual([...seen].sort(), ["1", "2", "3"]);
  });

  it("have unsynced names or not, each by itself", async () => {
    const seen = await outcomes(100, async (seed) => {
      const files = new MemoryFiles();
      await create(files, "/old", "");
      await files.syncDirectory("/");
      await create(files, "/a", "");
      await create(files, "/b", "");
      await files.remove("/old");
      return (await files.crash(new SeededRandom(seed)).list("/")).join(" ");
    });
    assert.equal(seen.size, 8, [...seen].join(" | "));
  });

  it("have a rename wholly or not at all", async () => {
    const seen = await outcomes(50, async (seed) => {
      const files = new MemoryFiles();
      await (await create(files, "/new", "new")).sync();
      await (await create(files, "/name", "old")).sync();
      await files.syncDirectory("/");
      await files.rename("/new", "/name");
      const left = files.crash(new SeededRandom(seed));
      return `${await left.list("/")} ${await contentOf(left, "/name")}`;
    });
    assert.deepEqual([...seen].sort(), ["name new", "name,new old"]);
  });

  it("have a file renamed to another directory under the names that were synced", async () => {
    const seen = new Map<string, string[]>();
    for (const synced of ["/from", "/to", "both", "neither"]) {
      const kept = await outcomes(50, async (seed) => {
        const files = new MemoryFiles();
        await files.makeDirectory("/from");
        await files.makeDirectory("/to");
        await (await create(files, "/from/a", "x")).sync();
        for (const path of ["/", "/from", "/to"]) await files.syncDirectory(path);
        await files.rename("/from/a", "/to/a");
        for (const path of ["/from", "/to"]) {
          if (synced === path || synced === "both") await files.syncDirectory(path);
        }
        const left = files.crash(new SeededRandom(seed));
        return `from:${await left.list("/from")} to:${await left.list("/to")}`;
      });
      seen.set(synced, [...kept].sort());
    }
    assert.deepEqual(Object.fromEntries(seen), {
      "/from": ["from: to:", "from: to:a"],
      "/to": ["from: to:a", "from:a to:a"],
      both: ["from: to:a"],
      neither: ["from: to:", "from: to:a", "from:a to:", "from:a to:a"],
    });
  });

  it("are the same for the same seed", async () => {
    const states = [];
    for (let run = 0; run < 2; run += 1) {
      const files = new MemoryFiles();
      const random = new SeededRandom(7);
      const handle = await create(files, "/a", "");
      await files.syncDirectory("/");
      for (let write = 0; write < 50; write += 1) {
        await handle.write([random.bytes(random.below(3_000))], random.below(100_000));
        if (random.below(10) === 0) await handle.sync();
      }
      states.push(await files.crash(random).readFile("/a"));
    }
    assert.deepEqual(states[0], states[1]);
  });

  it("have every synced byte, whatever happens to the others", async () => {
    for (let seed = 1; seed <= 100; seed += 1) {
      const random = new SeededRandom(seed);
      const files = new MemoryFiles();
      const handle = await create(files, "/a", "");
      await files.syncDirectory("/");
      const expected = new Uint8Array(64 * 1024);
      let end = 0;
      for (let step = 0; step < 20; step += 1) {
        const position = random.below(60_000);
        const bytes = random.bytes(1 + random.below(4_000));
        await handle.write([bytes], position);
        expected.set(bytes, position);
        end = Math.max(end, position + bytes.byteLength);
        if (random.below(4) === 0) await handle.truncate(end);
      }
      await handle.sync();
      await handle.write([new Uint8Array(10_000)], 65_536);
      const left = await files.crash(random).readFile("/a");
      assert.deepEqual(left.subarray(0, end), expected.subarray(0, end), `seed ${seed}`);
    }
  });
});

describe("a failed sync of memory files", () => {
  it("drops the data, which reads as written until the crash, and the next sync succeeds", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "durable.");
    await handle.sync();
    await files.syncDirectory("/");
    await handle.write([text("dropped.")], 0);
    files.fail({ operation: "sync" });
    await fails("io", () => handle.sync());
    assert.equal(await contentOf(files, "/a"), "dropped.");
    await handle.sync();
    assert.equal(await contentOf(files, "/a"), "dropped.");
    const died = files.crashKeepingEverything();
    assert.equal(await contentOf(died, "/a"), "dropped.");
    await (await died.open("/a", { access: "write" })).sync();
    assert.equal(await contentOf(died.crashKeepingNothing(), "/a"), "durable.");
  });

  it("may leave nothing of the data to be read", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "durable, and ");
    await handle.sync();
    await files.syncDirectory("/");
    await handle.write([text("DURABLE, and lost")], 0);
    files.fail({ operation: "sync", isEvicted: true });
    await fails("io", () => handle.sync());
    const found = await contentOf(files, "/a");
    assert.equal(found, `durable, and ${"\0".repeat(4)}`);
    await handle.write([text("new")], 0);
    await handle.sync();
    assert.equal((await contentOf(files.crashKeepingNothing(), "/a")).slice(0, 8), "newable,");
  });

  it("leaves a hole where the dropped data was when what follows it is synced", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "");
    await files.syncDirectory("/");
    await handle.write([new Uint8Array(512).fill(1)], 0);
    files.fail({ operation: "sync" });
    await fails("io", () => handle.sync());
    await handle.write([new Uint8Array(512).fill(2)], 512);
    await handle.sync();
    assert.equal(sectorsOf(await files.readFile("/a")), "12");
    assert.equal(sectorsOf(await files.crashKeepingNothing().readFile("/a")), "02");
  });

  it("does not touch what is written again afterwards and synced", async () => {
    const files = new MemoryFiles();
    const handle = await create(files, "/a", "");
    await files.syncDirectory("/");
    await handle.write([new Uint8Array(1_024).fill(1)], 0);
    files.fail({ operation: "sync" });
    await fails("io", () => handle.sync());
    await handle.write([new Uint8Array(1_024).fill(2)], 0);
    await handle.sync();
    assert.equal(sectorsOf(await files.crashKeepingNothing().readFile("/a")), "22");
  });
});

/** Holds back the next operation of a kind until it is opened. */
function holdNext(files: MemoryFiles, operation: string): { open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  files.before = (event) => {
    if (event.operation !== operation) return;
    files.before = undefined;
    return promise;
  };
  return { open: resolve };
}

/** What came out of a number of seeds. */
async function outcomes(seeds: number, run: (seed: number) => Promise<string>) {
  const seen = new Set<string>();
  for (let seed = 1; seed <= seeds; seed += 1) seen.add(await run(seed));
  return seen;
}

/** A digit for each sector, which must be all of one value. */
function sectorsOf(bytes: Uint8Array): string {
  let digits = "";
  for (let start = 0; start < bytes.byteLength; start += 512) {
    const sector = bytes.subarray(start, start + 512);
    assert.ok(
      sector.every((byte) => byte === sector[0]),
      "a sector is old or new, never both",
    );
    digits += sector[0];
  }
  return digits;
}
