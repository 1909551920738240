import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type ErrorCode, isKelpieError } from "../../src/base/errors.ts";
import type { Backend } from "../../src/store/backend/backend.ts";

export interface BackendUnderTest extends AsyncDisposable {
  /** Empty at first. */
  backend: Backend;
  /** Closes it and opens what it left again. */
  reopen(): Promise<Backend>;
}

/** What every backend must do. */
export function backendSuite(name: string, create: () => Promise<BackendUnderTest>): void {
  describe(`${name} as Backend`, () => {
    putAndGet(create);
    lists(create);
    keys(create);
  });
}

function putAndGet(create: () => Promise<BackendUnderTest>): void {
  it("gives back what was put, whole and in ranges", async () => {
    await using world = await create();
    const { backend } = world;
    const put = await backend.putIfAbsent("logs/0a/01", [text("hello "), text(""), text("world")]);
    assert.equal(put, "created");
    assert.deepEqual(await backend.get("logs/0a/01"), text("hello world"));
    assert.deepEqual(await backend.get("logs/0a/01", { offset: 6, length: 5 }), text("world"));
    assert.deepEqual(
      await backend.get("logs/0a/01", { offset: 0, length: 11 }),
      text("hello world"),
    );
    assert.deepEqual(await backend.get("logs/0a/01", { offset: 4, length: 0 }), text(""));
    await fails("io", backend.get("logs/0a/01", { offset: 6, length: 6 }));
    assert.equal(await backend.putIfAbsent("empty", []), "created");
    assert.deepEqual(await backend.get("empty"), text(""));
  });

  it("creates a key once and leaves it as it is", async () => {
    await using world = await create();
    assert.equal(await world.backend.putIfAbsent("a/1", [text("first")]), "created");
    assert.equal(await world.backend.putIfAbsent("a/1", [text("second")]), "exists");
    assert.deepEqual(await world.backend.get("a/1"), text("first"));
  });

  it("has exactly one winner among 32 puts of one key at once", async () => {
    await using world = await create();
    const puts = Array.from({ length: 32 }, (_, index) =>
      world.backend.putIfAbsent("catalog/0000000000000001", [text(`writer ${index}`)]),
    );
    const outcomes = await Promise.all(puts);
    const winner = outcomes.indexOf("created");
    assert.equal(outcomes.filter((outcome) => outcome === "created").length, 1);
    assert.equal(outcomes.filter((outcome) => outcome === "exists").length, 31);
    const content = await world.backend.get("catalog/0000000000000001");
    assert.deepEqual(content, text(`writer ${winner}`));
    assert.deepEqual(await world.backend.list(""), ["catalog/0000000000000001"]);
  });

  it("says not-found for what is not there", async () => {
    await using world = await create();
    await fails("not-found", world.backend.get("a"));
    await fails("not-found", world.backend.get("a/b/c", { offset: 0, length: 1 }));
  });

  it("deletes a key, or nothing, and the key can be put again", async () => {
    await using world = await create();
    const { backend } = world;
    await backend.putIfAbsent("logs/a/1", [text("one")]);
    await backend.putIfAbsent("logs/a/2", [text("two")]);
    await backend.delete("logs/a/1");
    await backend.delete("logs/a/1");
    await backend.delete("logs/none/1");
    await fails("not-found", backend.get("logs/a/1"));
    assert.deepEqual(await backend.list("logs/"), ["logs/a/2"]);
    assert.equal(await backend.putIfAbsent("logs/a/1", [text("again")]), "created");
    assert.deepEqual(await backend.get("logs/a/1"), text("again"));
  });

  it("has everything after it was closed and opened again", async () => {
    await using world = await create();
    await world.backend.putIfAbsent("a/b/c", [text("kept")]);
    const backend = await world.reopen();
    assert.deepEqual(await backend.list(""), ["a/b/c"]);
    assert.deepEqual(await backend.get("a/b/c"), text("kept"));
    assert.equal(await backend.putIfAbsent("a/b/c", [text("other")]), "exists");
  });

  it("refuses everything once it is closed, and finishes what was under way", async () => {
    await using world = await create();
    const { backend } = world;
    const put = backend.putIfAbsent("a", [text("in time")]);
    await backend.close();
    assert.equal(await put, "created");
    await fails("closed", backend.putIfAbsent("b", []));
    await fails("closed", backend.get("a"));
    await fails("closed", backend.list(""));
    await fails("closed", backend.delete("a"));
    await backend.close();
    assert.deepEqual(await (await world.reopen()).list(""), ["a"]);
  });
}

function lists(create: () => Promise<BackendUnderTest>): void {
  const all = [
    "catalog/0000000000000001",
    "catalog/0000000000000002",
    "logs/0000000000000001/0000000000000001",
    "logs/0000000000000001/0000000000000001.00000001",
    "logs/0000000000000001/0000000000000002",
    "logs/0000000000000002/0000000000000001",
    "logs/00000000000000ff/0000000000000001",
    "maps/0000000000000001",
    // "-" and "." sort before "/", so these come in an order that is not that of a tree's names.
    "x-1",
    "x.1",
    "x/1",
    "x/1-",
    "x/2/3",
    "x0",
  ];

  it("lists keys in the order of their text, whatever the order they came in", async () => {
    await using world = await create();
    await putAll(world.backend, [...all].reverse());
    assert.deepEqual(all, [...all].sort());
    assert.deepEqual(await world.backend.list(""), all);
  });

  it("lists what begins with a prefix and sorts after a key, for every prefix and key", async () => {
    await using world = await create();
    await putAll(world.backend, all);
    const prefixes = ["", "c", "catalog/", "logs", "logs/", "logs/0000000000000001/", "none/", "x"];
    prefixes.push(
      "logs/0000000000000001/0000000000000001",
      "logs/00000000000000",
      "x/",
      "x/2",
      "z",
    );
    const afters = ["", "a", "logs/0000000000000001", "logs/0000000000000001/", "x/", "zz", ...all];
    for (const prefix of prefixes) {
      for (const after of afters) {
        const expected = all.filter((key) => key.startsWith(prefix) && key > after);
        const listed = await world.backend.list(prefix, after);
        assert.deepEqual(listed, expected, `list(${prefix}, ${after})`);
      }
    }
  });

  it("lists a thousand keys at a time, and the rest after the last of them", async () => {
    await using world = await create();
    const many = Array.from({ length: 1_050 }, (_, index) => {
      const number = (index + 1).toString(16).padStart(16, "0");
      return index < 700 ? `logs/0000000000000001/${number}` : `logs/0000000000000002/${number}`;
    });
    await putAll(world.backend, many);
    const first = await world.backend.list("logs/");
    const second = await world.backend.list("logs/", first.at(-1));
    assert.deepEqual([first.length, second.length], [1_000, 50]);
    assert.deepEqual([...first, ...second], many);
    assert.deepEqual(await world.backend.list("logs/", second.at(-1)), []);
  });
}

function keys(create: () => Promise<BackendUnderTest>): void {
  it("refuses keys that are none, before it touches anything", async () => {
    await using world = await create();
    const { backend } = world;
    const bad = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".a", "-a"];
    bad.push("A", "a b", "a_b", "ä", "a\0b", "a\n", "x".repeat(300));
    for (const key of bad) {
      await fails("invalid", backend.putIfAbsent(key, [text("x")]));
      await fails("invalid", backend.get(key));
      await fails("invalid", backend.delete(key));
    }
    await fails("invalid", backend.list("../"));
    await fails("invalid", backend.list("/etc/"));
    assert.deepEqual(await backend.list(""), []);
  });
}

async function putAll(backend: Backend, keys: readonly string[]): Promise<void> {
  for (let start = 0; start < keys.length; start += 32) {
    const batch = keys.slice(start, start + 32);
    const puts = batch.map((key) => backend.putIfAbsent(key, [text(key)]));
    assert.ok((await Promise.all(puts)).every((outcome) => outcome === "created"));
  }
}

async function fails(code: ErrorCode, action: Promise<unknown>): Promise<void> {
  await assert.rejects(action, (error: unknown) => isKelpieError(error, code));
}

function text(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}
