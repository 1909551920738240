import assert from "node:assert/strict";
import { test } from "node:test";
import { type Machine, startMachine } from "../crash-points/forking-machine.ts";
import { assertUndamaged, looseName as w } from "../crash-points/visible-state.ts";
import { CaseWorld, looseBytes, openCaseStore } from "./case-world.ts";

/** What failing host calls and crashes found, each as the shortest way to it. */

test("a map that cannot be read during a purge leaves a store that can be opened", async () => {
  const { machine, world } = await begin();
  await world.write(w, 1, 1);
  await world.call("vdi.snapshot", { names: [w], tag: "one" });
  await world.write(w, 1, 2);
  await world.call("vdi.rollback", { names: [w], snapshot: "one" });
  await world.call("vdi.purge", {});
  await world.store.close();
  const again = new CaseWorld(await openCaseStore(machine.host));
  machine.host.files.fail({ operation: "read", on: (path) => path.includes("/maps/") });
  await assert.rejects(again.call("store.clean", {}), /injected/);
  await again.store.close();
  await openCaseStore(machine.host);
});

test("a disk whose seal cannot be synced can be deleted", async () => {
  const { machine, world } = await begin();
  await world.write(w, 1, 1);
  await world.flush(w);
  machine.host.files.fail({ operation: "sync", on: (path) => path.includes("/logs/") });
  await world.call("vdi.delete", { name: w });
  await world.call("vdi.undelete", { name: w });
  await world.write(w, 1, 2);
  await world.flush(w);
});

test("a segment whose first sync failed is cleaned after power loss", async () => {
  const { machine, world } = await begin();
  await world.write(w, 1, 1);
  machine.host.files.fail({ operation: "sync", on: (path) => path.includes("/logs/") });
  await world.flush(w);
  await world.store.close();
  const disk = machine.moment().afterPowerLoss({ below: () => 0 });
  const again = new CaseWorld(await openCaseStore(startMachine({ disk }).host));
  await again.call("store.clean", {});
});

test("a disk that has been shrunk says so, though what is behind its end cannot be removed", async () => {
  const { machine, world } = await begin();
  await world.write(w, 1, 1);
  machine.host.files.fail({ operation: "write", on: (path) => path.includes("/logs/") });
  const entry = await world.call("vdi.resize", { name: w, sizeBytes: 4096, shrink: true });
  assert.equal(entry.sizeBytes, 4096);
  await world.call("vdi.resize", { name: w, sizeBytes: looseBytes });
  const { ranges } = await world.call("vdi.map", { name: w });
  assert.deepEqual(ranges, [{ offset: 0, length: looseBytes, kind: "hole", depth: 0 }]);
});

test("a check after a crash does not miss what was purged and cleaned before it", async () => {
  const { machine, world } = await begin();
  await world.write(w, 1, 1);
  await world.call("vdi.delete", { name: w });
  await world.store.vdis.store.checkpoint();
  await world.call("vdi.purge", {});
  // In the background: without a checkpoint that says it.
  await machine.host.time.advance(1000);
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  const logs = await machine.host.files.list("/store/logs/0000000000000002");
  assert.deepEqual(logs, [], "the background has removed the segment");
  const disk = machine.moment().afterProcessDeath();
  await assertUndamaged(await openCaseStore(startMachine({ disk }).host));
});

async function begin(): Promise<{ machine: Machine; world: CaseWorld }> {
  const machine = startMachine();
  const world = new CaseWorld(await openCaseStore(machine.host, true));
  await world.call("vdi.create", { name: w, sizeBytes: looseBytes });
  return { machine, world };
}
