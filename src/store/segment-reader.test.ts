import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";

test("a body whose index cannot be read is not left open", async () => {
  const { vdis, files } = await openMemoryVdis({ segmentBytesMax: 32 * 1024 });
  await vdis.create("a", 2 ** 20);
  const volume = vdis.volume("a");
  for (let block = 0; block < 16; block++) await volume.write(filled(1), block * 4096);
  for (let block = 0; block < 3; block++) await volume.write(filled(2), block * 4096);
  await vdis.store.clean();
  await new Promise(setImmediate);
  const { openHandles } = files.leftOpen;
  files.fail({ operation: "read", on: (path) => path.endsWith(".00000001") });
  await assert.rejects(byteAt(volume, 4 * 4096), { code: "io" });
  await new Promise(setImmediate);
  assert.equal(files.leftOpen.openHandles, openHandles);
  assert.equal(await byteAt(volume, 4 * 4096), 1);
  await vdis.close();
});
