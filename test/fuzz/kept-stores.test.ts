import assert from "node:assert/strict";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { isKelpieError } from "../../src/base/errors.ts";
import type { LocalStore } from "../../src/control/local-store.ts";
import { countAllocations } from "./allocations.ts";
import { fuzz, type Tally } from "./fuzz.ts";
import { pick } from "./generated-requests.ts";
import {
  allocationBytesMax,
  type Content,
  contentOf,
  damaged,
  filesOf,
  keptStores,
  loadKeptStore,
  openFiles,
  operationsMax,
  operationsOf,
  type StoreFiles,
  structureOf,
} from "./kept-store.ts";
import { mutate } from "./mutate.ts";

interface Expected {
  structure: string;
  content: Content;
}

const stores = new Map<string, { files: StoreFiles; expected: Expected }>();
for (const name of keptStores) {
  const files = loadKeptStore(name);
  const store = await openFiles(await filesOf(files));
  const expected = { structure: await structureOf(store), content: await contentOf(store) };
  assert.ok(![...expected.content.values()].includes(damaged));
  await store.close();
  stores.set(name, { files, expected });
}

/** With files changed. It opens, or is refused, in a bounded number of steps. */
async function openDamaged(files: MemoryFiles): Promise<LocalStore | undefined> {
  try {
    return await openFiles(files);
  } catch (error) {
    const isRefused = isKelpieError(error, "corrupt") || isKelpieError(error, "unsupported");
    if (!isRefused) throw error;
    return undefined;
  }
}

/** The last batches of a log are not known to be synced: a recovery may cut them off. */
function mayBeOlder(store: string, path: string, key: string, found: string): boolean {
  const isTail = store.endsWith("killed") && path.startsWith("logs/");
  return isTail && ((key === "disk 3" && found === "1") || key === "disk extents");
}

fuzz("stores with damaged files", { runs: 200 }, async (random, tally) => {
  const name = pick(random, keptStores);
  const { files, expected } = stores.get(name) ?? assert.fail();
  const path = pick(random, [...files.keys()]);
  const bytes = files.get(path) ?? assert.fail();
  const other = mutate(bytes, random, [...files.values()]);
  const changed = await filesOf(new Map([...files, [path, other]]));
  const { largestBytes } = await countAllocations(() =>
    examine(changed, { expected, tally, isOlder: mayBeOlder.bind(undefined, name, path) }),
  );
  assert.ok(largestBytes <= allocationBytesMax, `${largestBytes} bytes were asked for at once`);
  assert.ok(operationsOf(changed) <= operationsMax, `${operationsOf(changed)} operations on files`);
});

async function examine(
  files: MemoryFiles,
  parts: { expected: Expected; tally: Tally; isOlder: (key: string, found: string) => boolean },
): Promise<void> {
  const { expected, tally, isOlder } = parts;
  const store = await openDamaged(files);
  if (store === undefined) return tally("refused");
  assert.equal(await structureOf(store), expected.structure);
  const content = await contentOf(store);
  let unreadable = 0;
  for (const [key, value] of expected.content) {
    const found = content.get(key) ?? assert.fail();
    if (found === damaged) unreadable++;
    else if (!isOlder(key, found)) assert.equal(found, value, key);
  }
  tally(unreadable > 0 ? "with damage that is reported" : "read whole");
  const { findings } = await store.control.call("store.check", {});
  const hasDamage = findings.some(({ severity }) => severity === "damage");
  assert.ok(unreadable === 0 || hasDamage, "what cannot be read is found by a check");
  // It goes on being used, and what was right stays right.
  await ignoreDamage(() => store.vdis.volume("disk").write([Buffer.alloc(4096, 9)], 9 * 4096));
  await ignoreDamage(() => store.control.call("store.clean", {}));
  await ignoreDamage(() => store.close());
  const again = await openFiles(files);
  const later = await contentOf(again);
  for (const [key, value] of content) {
    if (key.endsWith("extents") || value === damaged) continue;
    assert.equal(later.get(key), value, `${key}, after it was used`);
  }
  await again.close();
}

async function ignoreDamage(act: () => unknown): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!isKelpieError(error, "corrupt") && !isKelpieError(error, "io")) throw error;
  }
}
