import assert from "node:assert/strict";
import { test } from "node:test";
import { byteAt, filled, openMemoryVdis } from "../../test/support/memory-vdis.ts";
import { VdiExports } from "./vdi-exports.ts";

test("a snapshot is exported as a device that is read-only, says so, and never changes", async () => {
  const { vdis } = await openMemoryVdis();
  await vdis.create("a", 2 ** 20);
  await vdis.volume("a").write(filled(1), 0);
  await vdis.snapshot(["a"], "one");
  await vdis.volume("a").write(filled(2), 0);
  const exports = new VdiExports({ vdis });
  const { device, close } = await exports.open("a@one", { protocol: "nbd", peer: "x" });
  assert.equal(device.readOnly, true);
  const changes = [
    () => device.write(filled(3), 0),
    () => device.zero(0, 4096),
    () => device.trim(0, 4096),
  ];
  for (const change of changes) assert.throws(change, { code: "read-only" });
  assert.equal(await byteAt(device, 0), 1);
  await close();
  const { device: working } = await exports.open("a", { protocol: "nbd", peer: "x" });
  assert.equal(working.readOnly, false);
  assert.equal(await byteAt(working, 0), 2);
  await vdis.close();
});
