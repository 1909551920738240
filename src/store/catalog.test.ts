import assert from "node:assert/strict";
import { test } from "node:test";
import { createMemoryHost } from "../../sim/memory-host.ts";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Backend, PutOutcome } from "./backend/backend.ts";
import { openDirectoryBackend } from "./backend/directory.ts";
import { Catalog } from "./catalog.ts";
import {
  type CatalogRecord,
  decodeCatalogRecord,
  encodeCatalogRecord,
} from "./formats/catalog-record.ts";
import { catalogKey, catalogPrefix } from "./keys.ts";

const create = (id: number) => ({
  changes: [{ type: "point" as const, id, parent: 0, sizeBytes: 512 }],
  notes: [{ created: id }],
});

type Put = (put: () => Promise<PutOutcome>, attempt: number) => Promise<PutOutcome>;

/** A catalog over a real directory backend, whose puts go through `around`. */
async function openCatalog(around: Put = (put) => put()) {
  const host = createMemoryHost({ seed: 1 });
  await host.files.makeDirectory("/store");
  const real = await openDirectoryBackend({ root: "/store" }, host);
  let puts = 0;
  const backend: Backend = {
    putIfAbsent: (key, chunks) => around(() => real.putIfAbsent(key, chunks), ++puts),
    get: (key, range) => real.get(key, range),
    open: (key) => real.open(key),
    list: (prefix, after) => real.list(prefix, after),
    delete: (key) => real.delete(key),
    localPath: (key) => real.localPath(key),
    close: () => real.close(),
  };
  const applied: CatalogRecord[] = [];
  const apply = (record: CatalogRecord) => void applied.push(record);
  const catalog = new Catalog({ last: 0 }, { backend, host, apply });
  const stored = async () => {
    const keys = await real.list(catalogPrefix);
    return Promise.all(keys.map(async (key) => decodeCatalogRecord(await real.get(key), key)));
  };
  return { host, real, catalog, applied, stored, puts: () => puts };
}

/** Time stands still unless somebody moves it; a retry waits for it. */
async function settled(
  host: { time: { advance(ms: number): Promise<void> } },
  work: Promise<unknown>,
) {
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  done.catch(() => {});
  for (let turn = 0; turn < 200 && !isDone; turn++) await host.time.advance(100);
  assert.ok(isDone, "it never ends");
  await done;
}

test("proposals that wait at the same time share a record, in their order", async () => {
  const { catalog, applied, stored } = await openCatalog();
  const ids = Array.from({ length: 100 }, (_, at) => at + 1);
  await Promise.all(ids.map((id) => catalog.commit(create(id))));
  const records = await stored();
  assert.ok(records.length <= 2, `${records.length} records`);
  assert.equal(catalog.records, records.length);
  assert.deepEqual(applied, records);
  const notes = records.flatMap((record) => record.notes);
  assert.deepEqual(
    notes,
    ids.map((id) => ({ created: id })),
  );
});

test("a record holds 256 proposals at most", async () => {
  const { catalog, stored } = await openCatalog();
  const all = Array.from({ length: 600 }, (_, at) => catalog.commit(create(at + 1)));
  await Promise.all(all);
  const sizes = (await stored()).map((record) => record.changes.length);
  assert.ok(Math.max(...sizes) <= 256);
  assert.equal(
    sizes.reduce((sum, size) => sum + size, 0),
    600,
  );
});

test("commits one right after the other each get their own record", async () => {
  const { catalog, stored } = await openCatalog();
  // Asked for in the very moment in which the one before is answered.
  for (let id = 1; id <= 5; id++) await catalog.commit(create(id));
  const numbers = (await stored()).map((record) => record.number);
  assert.deepEqual(numbers, [1, 2, 3, 4, 5]);
});

test("a put whose answer was lost is found by its nonce and counts once", async () => {
  const { host, catalog, applied, stored, puts } = await openCatalog(async (put, attempt) => {
    const outcome = await put();
    return attempt === 1 ? "unknown" : outcome;
  });
  await settled(host, catalog.commit(create(1)));
  assert.equal(puts(), 1, "it stood there already");
  assert.equal(applied.length, 1);
  assert.equal((await stored()).length, 1);
});

test("a put that fails has made nothing: the commit fails with it, and the next goes on", async () => {
  const { catalog, applied, stored } = await openCatalog((put, attempt) => {
    if (attempt === 1) throw new KelpieError("io", "the host failed");
    return put();
  });
  await assert.rejects(catalog.commit(create(1)), { code: "io" });
  await catalog.commit(create(2));
  assert.deepEqual(applied, await stored());
  assert.deepEqual(
    applied.map(({ number, notes }) => ({ number, notes })),
    [{ number: 1, notes: [{ created: 2 }] }],
  );
});

test("what is not known to have been put is tried under the same number until it stands", async () => {
  const { host, catalog, stored, puts } = await openCatalog((put, attempt) =>
    attempt < 4 ? Promise.resolve("unknown") : put(),
  );
  await settled(host, catalog.commit(create(1)));
  assert.equal(puts(), 4);
  assert.deepEqual(
    (await stored()).map((record) => record.number),
    [1],
  );
});

test("a put that comes back as taken by itself is a success", async () => {
  // As when something in between repeats a request that had taken effect.
  const { host, catalog, applied } = await openCatalog(async (put) => {
    await put();
    return put();
  });
  await settled(host, catalog.commit(create(1)));
  assert.equal(applied.length, 1);
});

test("a full store refuses cleanly: nothing changes, and the number is free again", async () => {
  const { catalog, applied, stored } = await openCatalog((put, attempt) => {
    if (attempt === 1) throw new KelpieError("no-space", "full");
    return put();
  });
  const both = await Promise.allSettled([catalog.commit(create(1)), catalog.commit(create(2))]);
  const refused = both.filter(({ status }) => status === "rejected");
  assert.ok(refused.length >= 1);
  const before = applied.length;
  await catalog.commit(create(3));
  assert.equal(applied.length, before + 1);
  const numbers = (await stored()).map((record) => record.number);
  assert.deepEqual(
    numbers,
    numbers.map((_, at) => at + 1),
  );
});

test("a full store after an unknown outcome is not a refusal: the number is contended for", async () => {
  const { host, catalog, applied, puts } = await openCatalog((put, attempt) => {
    if (attempt === 1) return Promise.resolve("unknown");
    if (attempt === 2) throw new KelpieError("no-space", "full");
    return put();
  });
  await settled(host, catalog.commit(create(1)));
  assert.equal(puts(), 3);
  assert.equal(applied.length, 1);
});

test("somebody else's record under the next number stops this writer", async () => {
  const { real, catalog, applied } = await openCatalog();
  await catalog.commit(create(1));
  const foreign = { number: 2, nonce: "ff", timeMs: 0, ...create(9) };
  await real.putIfAbsent(catalogKey(2), encodeCatalogRecord(foreign));
  await assert.rejects(catalog.commit(create(2)), { code: "busy" });
  assert.equal(applied.length, 1, "nothing of either was applied");
});

test("closing gives up what nobody can tell about, and refuses what comes after", async () => {
  const { host, catalog } = await openCatalog(() => Promise.resolve("unknown"));
  const hanging = catalog.commit(create(1));
  hanging.catch(() => {});
  await host.time.advance(50);
  const closed = catalog.close();
  await settled(host, closed);
  await assert.rejects(hanging, (error) => isKelpieError(error, "io"));
  await assert.rejects(catalog.commit(create(2)), { code: "closed" });
});
