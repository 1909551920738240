import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryFiles } from "../../sim/memory-files.ts";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";

const mebibyte = 2 ** 20;
const reserveBytes = 8 * mebibyte;

async function fullStore() {
  const files = new MemoryFiles({ capacityBytes: 40 * mebibyte });
  const { vdis, host } = await openMemoryVdis({ reserveBytes, segmentBytesMax: mebibyte }, files);
  await vdis.create("a", 2 ** 30);
  const volume = vdis.volume("a");
  let written = 0;
  for (; written < 1000; written++) {
    try {
      await volume.write(filled(1 + (written % 200), 65536), written * 65536);
    } catch (error) {
      assert.equal((error as { code: string }).code, "no-space");
      break;
    }
    await host.time.advance(100);
  }
  return { vdis, host, volume, files, written };
}

test("a full store refuses writes before its reserve, and reads and flushes go on", async () => {
  const { vdis, volume, files, written } = await fullStore();
  assert.ok(written > 200 && written < 512, `${written} writes`);
  const { freeBytes } = await files.space("/store");
  assert.ok(freeBytes >= reserveBytes - 2 * mebibyte, `${freeBytes} bytes are left`);
  for (let at = 0; at < written; at += 17) {
    assert.equal(await byteAt(volume, at * 65536, 65536), 1 + (at % 200));
  }
  await volume.flush();
  await vdis.close();
});

test("a full store can be freed, and writes go on without opening it again", async () => {
  const { vdis, host, volume } = await fullStore();
  await vdis.create("b", mebibyte);
  await vdis.snapshot(["a"], "full");
  await volume.trim(0, 2 ** 30);
  await vdis.deleteSnapshot("a", "full");
  await vdis.store.clean();
  await host.time.advance(2000);
  await volume.write(filled(9, mebibyte), 0);
  assert.equal(await byteAt(volume, 0, mebibyte), 9);
  assert.equal(await byteAt(volume, mebibyte, mebibyte), 0);
  await vdis.close();
});

test("a host that cannot say how much is free stops nobody", async () => {
  const { vdis, host, files } = await openMemoryVdis();
  await vdis.create("a", mebibyte);
  files.fail({ operation: "space", times: 100 });
  for (let at = 0; at < 5; at++) {
    await host.time.advance(5000);
    await vdis.volume("a").write(filled(1), at * 4096);
    await new Promise(setImmediate);
  }
  files.clearFaults();
  await vdis.close();
});
