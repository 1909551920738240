import assert from "node:assert/strict";
import { test } from "node:test";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";

async function withTwoBlocks() {
  const { vdis, files } = await openMemoryVdis();
  await vdis.create("disk", 2 ** 20);
  const device = vdis.volume("disk");
  await device.write([...filled(1), ...filled(2)], 0);
  assert.equal(await byteAt(device, 4096), 2); // the segment is open for reading now
  return { vdis, files, device };
}

/** Changes a byte of the first block where the store keeps it. */
async function damageFirstBlock(files: MemoryFiles): Promise<void> {
  const [log] = await files.list("/store/logs");
  const path = `/store/logs/${log}/0000000000000000`;
  const at = Buffer.from(await files.readFile(path)).indexOf(Buffer.alloc(4096, 1));
  const handle = await files.open(path, { access: "write" });
  await handle.write([Buffer.alloc(1, 0xff)], at + 1000);
  await handle.close();
}

/** What is not resident is read by the other way. */
function makeNothingResident(files: MemoryFiles): void {
  files.before = ({ operation }) => (operation === "tryRead" ? Promise.resolve() : undefined);
}

for (const way of ["resident", "not resident"]) {
  test(`a block that is damaged is not handed out, ${way}`, async () => {
    const { vdis, files, device } = await withTwoBlocks();
    await damageFirstBlock(files);
    if (way === "not resident") makeNothingResident(files);
    const reads = files.count("read");
    const target = Buffer.alloc(4096, 0xee);
    await assert.rejects(async () => device.read(target, 0), { code: "corrupt" });
    assert.equal(files.count("read") > reads, way === "not resident");
    assert.ok(target.every((byte) => byte === 0));
    assert.equal(await byteAt(device, 4096), 2);
    await vdis.close();
  });
}

test("a block that is overwritten while it is read is what it was, or what it is", async () => {
  const { vdis, files, device } = await withTwoBlocks();
  const gate = Promise.withResolvers<void>();
  files.before = ({ operation }) => {
    if (operation === "tryRead") return Promise.resolve();
    return operation === "read" ? gate.promise : undefined;
  };
  const target = Buffer.alloc(8192, 0xee);
  const reading = device.read(target, 0);
  await device.write([...filled(3), ...filled(4)], 0);
  gate.resolve();
  await reading;
  assert.deepEqual([target[0], target[4096]], [1, 2]);
  await vdis.close();
});
