import assert from "node:assert/strict";
import { test } from "node:test";
import { directory, LogWorld, log } from "../../../test/store/log-world.ts";
import { batchSeed } from "../formats/batch.ts";
import { readSegmentHeader, scanBatches } from "./segment-scan.ts";

test("a scan ends at its limit, and before a batch that reaches beyond it", async () => {
  const world = new LogWorld();
  for (let block = 0; block < 3; block++) await world.write(block, 1);
  const path = `${directory}/0000000000000000`;
  const handle = await world.files.open(path, { access: "read" });
  const header = (await readSegmentHeader(handle)) ?? assert.fail();
  // The segment's header, and batches of one unit and a block each.
  const ends = [1, 10, 19, 28];
  for (let limitUnits = 1; limitUnits <= 30; limitUnits++) {
    const scan = await scanBatches(handle, {
      log,
      segment: 0,
      seed: batchSeed(header.storeId),
      units: 1,
      previous: header.crc,
      verifyFromUnits: 0,
      limitUnits,
    });
    const end = ends.findLastIndex((units) => units <= limitUnits);
    assert.equal(scan.endUnits, ends[end], `up to ${limitUnits}`);
    assert.equal(scan.summary.crcs.length, end, "a block for each batch");
  }
  await handle.close();
});

test("a whole batch that was written behind another one than stands before it is not taken", async () => {
  const worlds = [new LogWorld(), new LogWorld()];
  for (const [at, world] of worlds.entries()) {
    for (let block = 0; block < 3; block++) await world.write(block, at + 1);
  }
  const [world, other] = worlds;
  assert.ok(world !== undefined && other !== undefined);
  const path = `${directory}/0000000000000000`;
  const stale = (await other.files.readFile(path)).subarray(19 * 512);
  const handle = await world.files.open(path, { access: "write" });
  await handle.write([stale], 19 * 512);
  const header = (await readSegmentHeader(handle)) ?? assert.fail();
  const scan = await scanBatches(handle, {
    log,
    segment: 0,
    seed: batchSeed(header.storeId),
    units: 1,
    previous: header.crc,
    verifyFromUnits: 0,
    limitUnits: Number.POSITIVE_INFINITY,
  });
  assert.equal(scan.endUnits, 19);
  await handle.close();
});
