import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost } from "../../sim/memory-host.ts";
import { isKelpieError } from "../../src/base/errors.ts";
import type { BlockDevice } from "../../src/block/block-device.ts";
import { type LocalStore, openLocalStore } from "../../src/control/local-store.ts";
import { storesDirectory } from "../formats/kept-stores.ts";

/** The files of a store, by their paths in it. */
export type StoreFiles = Map<string, Buffer>;

export const keptStores = readdirSync(storesDirectory).flatMap((version) =>
  ["stopped", "killed"].map((name) => join(version, name)),
);

export function loadKeptStore(name: string): StoreFiles {
  const root = join(storesDirectory, name);
  const paths = readdirSync(root, { recursive: true, encoding: "utf8" });
  const isFile = (path: string) => statSync(join(root, path)).isFile();
  return new Map(paths.filter(isFile).map((path) => [path, readFileSync(join(root, path))]));
}

/** The same on a disk in memory, all of it synced. */
export async function filesOf(store: StoreFiles): Promise<MemoryFiles> {
  const files = new MemoryFiles();
  for (const [path, bytes] of store) {
    await files.makeDirectory(posix.join("/store", dirname(path)));
    const handle = await files.open(posix.join("/store", path), { access: "create" });
    await handle.write([bytes], 0);
    await handle.close();
  }
  return files.crashKeepingEverything();
}

/** What reads and scans of these stores take at a time, whatever a length field says. */
export const allocationBytesMax = 2 ** 22;
/** Of a store of ten files; a recovery that goes round in circles needs more. */
export const operationsMax = 3000;

export function operationsOf(files: MemoryFiles): number {
  return Object.values(files.counts()).reduce((sum, count) => sum + count, 0);
}

export function openFiles(files: MemoryFiles): Promise<LocalStore> {
  const host = createMemoryHost({ seed: 1, files });
  return openLocalStore({ directory: "/store" }, { host });
}

/** What was read of one place of one disk or snapshot, or that it cannot be read. */
export type Content = Map<string, string>;

export const damaged = "damaged";
const exportNames = ["disk", "disk@first", "disk@second", "clone"];
/** Where there is something: data, a hole, zeros that stay allocated, data far out. */
const blocks = [0, 1, 2, 3, 4, 2 ** 16, 2 ** 17];

/** Names, snapshots and discarded tips. */
export async function structureOf(store: LocalStore): Promise<string> {
  const listed = await store.control.call("vdi.list", {});
  const discarded = await store.control.call("vdi.discarded", {});
  const seen = listed.map(({ name, kind, snapId, tag, sizeBytes, parent, point }) =>
    [name, kind, snapId, tag, sizeBytes, parent, point].join(),
  );
  return [...seen, ...discarded.map(({ name, point, why }) => [name, point, why].join())].join(
    "\n",
  );
}

export async function contentOf(store: LocalStore): Promise<Content> {
  const content: Content = new Map();
  for (const name of exportNames) {
    const opened = await store.exports.open(name, { protocol: "library", peer: "fuzz" });
    for (const block of blocks) {
      content.set(`${name} ${block}`, await orDamaged(() => readBlock(opened.device, block)));
    }
    content.set(`${name} extents`, await orDamaged(() => allExtents(opened.device)));
    await opened.close();
  }
  return content;
}

async function readBlock(device: BlockDevice, block: number): Promise<string> {
  const target = Buffer.alloc(4096, 0xee);
  await device.read(target, block * 4096);
  const [first] = target;
  assert.ok(
    target.every((byte) => byte === first),
    "a block is a mixture",
  );
  return String(first);
}

async function allExtents(device: BlockDevice): Promise<string> {
  const length = device.sizeBytes;
  const query = { kind: "allocation", offset: 0, length, extentsMax: 1000 } as const;
  return JSON.stringify(await device.extents(query));
}

/** Damage is an error that says so, and nothing else. */
async function orDamaged(read: () => Promise<string>): Promise<string> {
  try {
    return await read();
  } catch (error) {
    if (isKelpieError(error, "corrupt") || isKelpieError(error, "io")) return damaged;
    throw error;
  }
}
