import assert from "node:assert/strict";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { isKelpieError } from "../../src/base/errors.ts";
import { countAllocations } from "./allocations.ts";
import { forgeOne } from "./forged-store.ts";
import { fuzz } from "./fuzz.ts";
import { pick } from "./generated-requests.ts";
import {
  allocationBytesMax,
  contentOf,
  filesOf,
  keptStores,
  loadKeptStore,
  openFiles,
  operationsMax,
  operationsOf,
} from "./kept-store.ts";

const stores = keptStores.map(loadKeptStore);

// What is read may be wrong, for checksums are all that could tell; but it must come to an end.
fuzz("stores with forged structures", { runs: 100 }, async (random, tally) => {
  const files = await filesOf(forgeOne(pick(random, stores), random));
  const { result, largestBytes } = await countAllocations(() => useAll(files));
  tally(result);
  assert.ok(largestBytes <= allocationBytesMax, `${largestBytes} bytes were asked for at once`);
  assert.ok(operationsOf(files) <= operationsMax, `${operationsOf(files)} operations on files`);
});

async function useAll(files: MemoryFiles): Promise<string> {
  try {
    const store = await openFiles(files);
    await contentOf(store);
    await store.control.call("store.check", {});
    await store.control.call("store.clean", {});
    await store.close();
    return "used";
  } catch (error) {
    if (!isKelpieError(error)) throw error;
    return `refused as ${error.code}`;
  }
}
