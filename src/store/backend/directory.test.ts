import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MemoryFiles } from "../../../sim/memory-files.ts";
import { SeededRandom } from "../../../sim/random.ts";
import { isKelpieError } from "../../base/errors.ts";
import type { Backend } from "./backend.ts";
import { openDirectoryBackend } from "./directory.ts";

const root = "/data/store";
const key = "logs/0000000000000001/0000000000000001";

describe("a directory backend and power failures", () => {
  it("keeps whatever was created, with every directory above it", async () => {
    let files = new MemoryFiles();
    let backend = await open(files);
    const keys = [key, "logs/0000000000000001/0000000000000002", "catalog/01", "single"];
    for (const [index, each] of keys.entries()) {
      assert.equal(await backend.putIfAbsent(each, [text(each)]), "created");
      files = files.crashKeepingNothing();
      backend = await open(files);
      for (const present of keys.slice(0, index + 1)) {
        assert.deepEqual(await backend.get(present), text(present), `${present} after ${each}`);
      }
    }
  });

  it("keeps an empty store that was opened", async () => {
    const files = new MemoryFiles();
    await open(files);
    assert.deepEqual(await files.crashKeepingNothing().list(root), []);
  });

  it("keeps what is created in a directory that an earlier process died while making", async () => {
    for (const dieAt of ["open", "syncDirectory", "makeDirectory"] as const) {
      const first = new MemoryFiles();
      const backend = await open(first);
      const died = await dieAtNext(first, dieAt, () => backend.putIfAbsent(key, [text("lost")]));
      const again = await open(died);
      assert.equal(await again.putIfAbsent(key, [text("kept")]), "created", `died at ${dieAt}`);
      const after = await open(died.crashKeepingNothing());
      assert.deepEqual(await after.get(key), text("kept"), `died at ${dieAt}`);
    }
  });

  it("keeps a store whose first opening died before it had synced what it made", async () => {
    const first = new MemoryFiles();
    const died = await dieAtNext(first, "syncDirectory", () => open(first));
    assert.equal((await died.stat(root)).kind, "directory");
    const backend = await open(died);
    await backend.putIfAbsent("a", [text("kept")]);
    const after = await open(died.crashKeepingNothing());
    assert.deepEqual(await after.get("a"), text("kept"));
  });

  it("does not lose what the next process has seen of a put that died before its last sync", async () => {
    const first = new MemoryFiles();
    const backend = await open(first);
    await backend.putIfAbsent(`${key}.00000001`, [text("makes the directories")]);
    const died = await dieAtNext(first, "syncDirectory", () =>
      backend.putIfAbsent(key, [text("linked, not synced")]),
    );
    const second = await open(died);
    assert.deepEqual(await second.get(key), text("linked, not synced"));
    const third = await open(died.crashKeepingNothing());
    assert.deepEqual(await third.get(key), text("linked, not synced"));
  });

  it("does not lose what the next process has seen of a put whose outcome was unknown", async () => {
    const first = new MemoryFiles();
    const backend = await open(first);
    await backend.putIfAbsent("catalog/00", [text("makes the directory")]);
    first.fail({ operation: "syncDirectory" });
    assert.equal(await backend.putIfAbsent("catalog/01", [text("x")]), "unknown");
    const died = first.crashKeepingEverything();
    assert.deepEqual(await (await open(died)).get("catalog/01"), text("x"));
    const third = await open(died.crashKeepingNothing());
    assert.deepEqual(await third.get("catalog/01"), text("x"));
  });

  it("says exists only of what a power failure leaves there", async () => {
    const files = new MemoryFiles();
    const backend = await open(files);
    await backend.putIfAbsent("catalog/00", [text("makes the directory")]);
    // The first put hangs in its last sync, and then everything stops.
    let hung = false;
    files.before = ({ operation, path }) => {
      if (operation !== "syncDirectory" || path !== `${root}/catalog` || hung) return;
      hung = true;
      return new Promise(() => {});
    };
    void backend.putIfAbsent("catalog/01", [text("first")]);
    for (let turn = 0; turn < 1_000 && !hung; turn += 1) await Promise.resolve();
    assert.ok(hung, "the put came to its last sync");
    assert.equal(await backend.putIfAbsent("catalog/01", [text("second")]), "exists");
    const after = await open(files.crashKeepingNothing());
    assert.deepEqual(await after.get("catalog/01"), text("first"));
  });

  it("is whole or absent at a crash before any operation of a put, whatever survives", async () => {
    for (let seed = 1; seed <= 200; seed += 1) {
      const random = new SeededRandom(seed);
      const files = new MemoryFiles();
      const backend = await open(files, random);
      const stopAt = random.below(14);
      let operations = 0;
      let left: MemoryFiles | undefined;
      files.before = () => {
        operations += 1;
        if (operations === stopAt) left = files.crash(random);
      };
      const content = random.bytes(3_000);
      const outcome = await backend.putIfAbsent(key, [content]).catch(() => "died");
      left ??= files.crash(random);
      const after = await open(left, random);
      const found = await after.get(key).catch((error: unknown) => {
        assert.ok(isKelpieError(error, "not-found"), `seed ${seed}: ${String(error)}`);
      });
      if (outcome === "created") assert.ok(found !== undefined, `seed ${seed}: lost`);
      if (found !== undefined) assert.deepEqual(found, content, `seed ${seed}: not what was put`);
      assert.deepEqual(await left.list(`${root}/tmp`), [], `seed ${seed}: left-overs`);
    }
  });
});

describe("a directory backend and failures", () => {
  it("says unknown when the last sync fails, and syncs before it reports the name", async () => {
    const files = new MemoryFiles();
    const backend = await open(files);
    await backend.putIfAbsent("catalog/00", [text("makes the directory")]);
    files.fail({ operation: "syncDirectory" });
    assert.equal(await backend.putIfAbsent("catalog/01", [text("mine")]), "unknown");
    files.fail({ operation: "syncDirectory", times: 2 });
    await fails("io", backend.get("catalog/01"));
    await fails("io", backend.list("catalog/"));
    assert.deepEqual(await backend.get("catalog/01"), text("mine"));
    const after = await open(files.crashKeepingNothing());
    assert.deepEqual(await after.get("catalog/01"), text("mine"));
  });

  it("says unknown when the link fails for a reason that does not say whether it was made", async () => {
    const files = new MemoryFiles();
    const backend = await open(files);
    files.fail({ operation: "link" });
    assert.equal(await backend.putIfAbsent(key, [text("x")]), "unknown");
    await fails("not-found", backend.get(key));
    assert.equal(await backend.putIfAbsent(key, [text("again")]), "created");
  });

  it("leaves nothing behind when there is no space", async () => {
    const files = new MemoryFiles({ capacityBytes: 64 * 1024 });
    const backend = await open(files);
    const { freeBytes } = await files.space(root);
    await fails("no-space", backend.putIfAbsent(key, [new Uint8Array(100_000)]));
    assert.deepEqual(await backend.list(""), []);
    assert.deepEqual(await files.list(`${root}/tmp`), []);
    assert.equal((await files.space(root)).freeBytes, freeBytes);
    assert.equal(await backend.putIfAbsent(key, [new Uint8Array(10_000)]), "created");
  });

  it("throws no-space and leaves nothing when the write, its sync or the link meets it", async () => {
    for (const operation of ["open", "write", "sync", "link"] as const) {
      const files = new MemoryFiles();
      const backend = await open(files);
      files.fail({ operation, code: "no-space" });
      await fails("no-space", backend.putIfAbsent("a", [text("x")]));
      assert.deepEqual(await files.list(root), ["tmp"], operation);
      assert.deepEqual(await files.list(`${root}/tmp`), [], operation);
    }
  });

  it("creates nothing when the contents cannot be made durable", async () => {
    const files = new MemoryFiles();
    const backend = await open(files);
    files.fail({ operation: "sync" });
    await fails("io", backend.putIfAbsent("a", [text("x")]));
    assert.deepEqual(await backend.list(""), []);
    assert.equal(await backend.putIfAbsent("a", [text("x")]), "created");
  });

  it("creates nothing when the directory above cannot be made durable, and tries again", async () => {
    const files = new MemoryFiles();
    const backend = await open(files);
    files.fail({ operation: "syncDirectory" });
    await fails("io", backend.putIfAbsent("a/1", [text("x")]));
    assert.equal(await backend.putIfAbsent("a/1", [text("x")]), "created");
    const after = await open(files.crashKeepingNothing());
    assert.deepEqual(await after.get("a/1"), text("x"));
  });
});

describe("a directory backend", () => {
  it("opens only the directories it needs for a page of a listing", async () => {
    const files = new MemoryFiles();
    const backend = await open(files);
    for (let log = 0; log < 40; log += 1) {
      const keys = Array.from({ length: 50 }, (_, number) => `logs/${hex(log)}/${hex(number)}`);
      await Promise.all(keys.map((each) => backend.putIfAbsent(each, [])));
    }
    const listed = async (prefix: string, after?: string): Promise<number> => {
      const before = files.count("list");
      await backend.list(prefix, after);
      return files.count("list") - before;
    };
    assert.equal(await listed(`logs/${hex(7)}/`), 1);
    assert.equal(await listed("logs/", `logs/${hex(38)}/${hex(10)}`), 3);
    assert.equal(await listed("logs/"), 21, "the logs directory and the first twenty logs");
    assert.equal(await listed("maps/"), 1);
  });

  it("lists no files that are not its own", async () => {
    const files = new MemoryFiles();
    const backend = await open(files);
    await backend.putIfAbsent("catalog/01", [text("x")]);
    for (const name of ["lost+found", "Copy of catalog", ".hidden"]) {
      await files.makeDirectory(`${root}/${name}/deeper`);
    }
    await files.makeDirectory(`${root}/catalog/02`);
    assert.deepEqual(await backend.list(""), ["catalog/01"]);
    await fails("invalid", backend.putIfAbsent("tmp/a", []));
    await fails("invalid", backend.get("tmp"));
  });

  it("says where the file of a key is", async () => {
    const files = new MemoryFiles();
    const backend = await open(files);
    await backend.putIfAbsent(key, [text("x")]);
    const path = backend.localPath(key);
    assert.equal(path, `${root}/${key}`);
    assert.deepEqual(await files.readFile(path ?? ""), text("x"));
  });

  it("makes a directory durable once, not with every put", async () => {
    const files = new MemoryFiles();
    const backend = await open(files);
    await backend.putIfAbsent("a/b/1", []);
    const before = files.count("syncDirectory");
    await backend.putIfAbsent("a/b/2", []);
    await backend.putIfAbsent("a/b/3", []);
    assert.equal(files.count("syncDirectory") - before, 2);
  });
});

function open(files: MemoryFiles, random = new SeededRandom(1)): Promise<Backend> {
  return openDirectoryBackend({ root }, { files, random });
}

/** Kills the process just before its next operation of a kind takes effect. */
async function dieAtNext(
  files: MemoryFiles,
  operation: string,
  action: () => Promise<unknown>,
): Promise<MemoryFiles> {
  let left: MemoryFiles | undefined;
  files.before = (event) => {
    if (event.operation === operation) left ??= files.crashKeepingEverything();
  };
  // Nobody hears what a dead process would have answered.
  await action().catch(() => {});
  assert.ok(left !== undefined, `there was no ${operation}`);
  return left;
}

async function fails(code: string, action: Promise<unknown>): Promise<void> {
  await assert.rejects(action, (error: unknown) => isKelpieError(error) && error.code === code);
}

function hex(number: number): string {
  return number.toString(16).padStart(16, "0");
}

function text(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}
