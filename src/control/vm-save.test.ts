import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import type { Interception } from "../../test/support/fake-qemu.ts";
import {
  asIfStarted,
  atA,
  later,
  monitor,
  name,
  savedOnce,
  startBranch,
  VmWorld,
} from "../../test/support/vm-world.ts";
import { isKelpieError } from "../base/errors.ts";

/** The commands that an operation sends, once each. */
async function commandsOf(run: (world: VmWorld) => Promise<unknown>): Promise<string[]> {
  const world = await savedOnce();
  await run(world);
  const { log } = world.qemu;
  await world.close();
  return log;
}

const operations = {
  savevm: (world: VmWorld) => world.control.call("vm.savevm", { name, tag: "b" }),
  loadvm: (world: VmWorld) => world.control.call("vm.loadvm", { name, snapshot: "a" }),
};

describe("all or nothing", () => {
  for (const [operation, run] of Object.entries(operations)) {
    test(`${operation}: whatever command QEMU refuses, it happened or it did not`, async () => {
      const count = (await commandsOf(run)).length;
      let undone = 0;
      for (let at = 0; at < count; at++) {
        const world = await savedOnce();
        let sent = 0;
        world.qemu.intercept = (): Interception => {
          return sent++ === at ? new Error("on purpose") : undefined;
        };
        const error = await run(world).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        world.qemu.intercept = () => undefined;
        const saved = (await world.control.call("vm.snapshots", { name })).length;
        const done = operation === "savevm" ? saved === 2 : (await world.moment()).root === 2;
        const message = isKelpieError(error) ? error.message : String(error);
        const was = `command ${at}, ${world.qemu.log[at]}: ${message}`;
        // A further command brings everything in order.
        await world.control.call("vm.attach", { name });
        assert.equal(world.qemu.isRunning, true, was);
        await world.mustBeInOrder();
        if (done) assert.deepEqual(await world.moment(), operation === "loadvm" ? atA : later, was);
        else {
          assert.deepEqual(await world.moment(), later, was);
          assert.notEqual(error, undefined, was);
          undone++;
        }
        if (!done && /failed/.test(message)) assert.match(message, /the VM is as it was$/, was);
        await world.close();
      }
      assert.ok(undone >= 5, `${undone} of ${count} were undone`);
    });

    test(`${operation}: at whatever command Kelpie dies, the next start brings it in order`, async () => {
      const count = (await commandsOf(run)).length;
      for (let at = 0; at < count; at++) {
        const world = await savedOnce();
        let sent = 0;
        const died = Promise.withResolvers<MemoryFiles>();
        world.qemu.intercept = (): Interception => {
          if (sent++ !== at) return undefined;
          // QEMU does what it was asked for; the answer finds nobody.
          queueMicrotask(() => died.resolve(world.die()));
          return undefined;
        };
        const ended = run(world).catch(() => undefined);
        const files = await died.promise;
        world.qemu.intercept = () => undefined;
        const { qemu, net } = world;
        const next = await VmWorld.open({ files, qemu, net });
        const record = () => next.vdis.registry.vms.find(name);
        await next.until(() => record().pending === null);
        await ended;
        const was = `command ${at}, ${qemu.log[at]}`;
        assert.equal(qemu.isRunning, true, was);
        await next.control.call("vm.attach", { name });
        await next.mustBeInOrder();
        const moment = await next.moment();
        const expected = moment.root === 2 ? atA : later;
        assert.deepEqual(moment, expected, was);
        if (operation === "savevm") assert.deepEqual(moment, later, was);
        await next.close();
      }
    });
  }

  test("a branch begins, at whatever command Kelpie dies", async () => {
    const attach = { name: "vm2", begin: true };
    const branched = async () => {
      const world = await savedOnce();
      await asIfStarted(world);
      const vm = await world.control.call("vm.branch", { name, snapshot: "a", as: "vm2" });
      return { world, vm, qemu: await startBranch(world, vm) };
    };
    const whole = await branched();
    await whole.world.control.call("vm.attach", attach);
    const count = whole.qemu.log.length;
    await whole.world.close();
    for (let at = 0; at < count; at++) {
      const { world, vm, qemu } = await branched();
      let sent = 0;
      const died = Promise.withResolvers<MemoryFiles>();
      qemu.intercept = (): Interception => {
        if (sent++ !== at) return undefined;
        queueMicrotask(() => {
          qemu.vanish();
          died.resolve(world.die());
        });
        return undefined;
      };
      // It has no end: its process is dead.
      world.control.call("vm.attach", attach).catch(() => {});
      const files = await died.promise;
      qemu.intercept = () => undefined;
      const next = await VmWorld.open({ files, qemu: world.qemu, net: world.net });
      for (const disk of vm.disks) next.connectDisk(disk);
      await next.control.call("vm.attach", attach);
      const was = `command ${at}, ${qemu.log[at]}`;
      assert.equal(qemu.memory, "at-a", was);
      assert.equal(qemu.isRunning, true, was);
      const { working, vms } = next.vdis.registry;
      assert.equal(vms.find("vm2").pending, null, was);
      assert.ok(!working.has("vm2.memory.load"), was);
      await next.close();
    }
    assert.ok(count > 10, `${count} commands`);
  });

  test("QEMU that dies in the middle leaves the disks as they were, and the next one starts", async () => {
    for (const command of ["stop", "snapshot-save", "snapshot-load", "cont"]) {
      const world = await savedOnce();
      world.qemu.intercept = (sent): Interception => (sent === command ? "vanish" : undefined);
      await assert.rejects(world.control.call("vm.loadvm", { name, snapshot: "a" }));
      const moment = await world.moment();
      assert.deepEqual([moment.root, moment.data], command === "cont" ? [2, 2] : [3, 3], command);
      // Another process, which boots.
      world.qemu.intercept = () => undefined;
      world.qemu.nodes.delete("kelpie-memory");
      world.qemu.nodes.delete("kelpie-memory-file");
      world.qemu.memory = "booted";
      // Nobody has to ask for it.
      const { vms } = world.vdis.registry;
      await world.until(() => vms.find(name).pending === null);
      assert.equal(world.vdis.registry.working.has("vm1.memory.load"), false);
      await world.control.call("vm.attach", { name });
      assert.equal((await world.moment()).memory, "booted", command);
      await world.mustBeInOrder();
      await world.close();
    }
  });

  test("a QEMU that dies while it loads takes the copy with it, also if Kelpie died first", async () => {
    const launch = { memory: "256M", arguments: [], directory: "/" };
    const copies = (world: VmWorld) =>
      [...world.vdis.registry.working.keys()].filter((disk) => disk.endsWith(".load"));
    for (const end of ["attach", "delete", "run"]) {
      const world = await savedOnce();
      world.qemu.intercept = (sent): Interception =>
        sent === "snapshot-load" ? "hang" : undefined;
      const loading = world.control.call("vm.loadvm", { name, snapshot: "a" });
      loading.catch(() => {}); // It ends with the world.
      await world.until(() => world.qemu.log.at(-1) === "snapshot-load");
      assert.deepEqual(copies(world), ["vm1.memory.load"]);
      const files = world.die();
      world.net.stopListening(monitor);
      const { qemu, net } = world;
      qemu.intercept = () => undefined;
      const next = await VmWorld.open({ files, qemu, net });
      const { vms } = next.vdis.registry;
      if (end === "attach") await next.until(() => vms.find(name).pending === null);
      else if (end === "delete") await next.control.call("vm.delete", { name });
      else await next.control.call("vm.create", { name, launch });
      assert.deepEqual(copies(next), [], end);
      const discarded = [...next.vdis.registry.discarded.values()].map((entry) => entry.name);
      assert.deepEqual(discarded, end === "delete" ? ["vm1.memory"] : []);
      await next.close();
    }
  });

  test("when there may be no space for the memory, nothing is begun", async () => {
    const world = await savedOnce();
    world.host.files.space = async () => ({ totalBytes: 2 ** 30, freeBytes: 2 ** 28 });
    for (const run of Object.values(operations)) {
      await assert.rejects(run(world), (error) => {
        assert.ok(isKelpieError(error, "no-space"));
        assert.match(error.message, /the memory of VM "vm1" may take up to 256 MiB/);
        return true;
      });
    }
    assert.ok(!world.qemu.log.includes("stop"));
    await world.mustBeInOrder();
    await world.close();
  });

  test("when space runs out under the memory, nothing has changed", async () => {
    const world = await savedOnce();
    let failed = false;
    world.qemu.intercept = (command): Interception => {
      if (command !== "snapshot-save" || failed) return undefined;
      failed = true;
      return new Error("No space left on device");
    };
    const saving = world.control.call("vm.savevm", { name, tag: "b" });
    await assert.rejects(saving, /saving the memory failed: .*No space left.*the VM is as it was/);
    assert.deepEqual(await world.moment(), later);
    await world.mustBeInOrder();
    await world.close();
  });
});

describe("where states are", () => {
  /** Where QEMU was told to save and to load. */
  function places(world: VmWorld): string[] {
    const seen: string[] = [];
    world.qemu.intercept = (command, input): Interception => {
      const isOne = command === "snapshot-save" || command === "snapshot-load";
      if (isOne) seen.push(`${command} ${String(input.vmstate)}`);
      return undefined;
    };
    return seen;
  }

  test("none is loaded from the image that others are saved in", async () => {
    const world = await savedOnce();
    const seen = places(world);
    await world.control.call("vm.loadvm", { name, snapshot: "a" });
    await world.control.call("vm.savevm", { name, tag: "b" });
    assert.deepEqual(seen, [
      "snapshot-save kelpie-spare",
      "snapshot-load kelpie-copy",
      "snapshot-save kelpie-memory",
    ]);
    await world.mustBeInOrder();
    await world.close();
  });

  test("a QEMU that cannot make a file keeps what its memory is in the memory VDI", async () => {
    for (const fails of [false, true]) {
      const world = await savedOnce();
      const seen = places(world);
      const { intercept } = world.qemu;
      world.qemu.intercept = (command, input): Interception => {
        const { driver } = (input.options ?? {}) as { driver?: string };
        if (driver === "file") return new Error("Could not create file: Permission denied");
        intercept(command, input);
        if (fails && input.vmstate === "kelpie-copy") return new Error("on purpose");
        return undefined;
      };
      const loading = world.control.call("vm.loadvm", { name, snapshot: "a" });
      if (fails) await assert.rejects(loading, /on purpose; the VM is as it was$/);
      else await loading;
      const back = fails ? ["snapshot-load kelpie-memory"] : [];
      const both = ["snapshot-save kelpie-memory", "snapshot-load kelpie-copy"];
      assert.deepEqual(seen, [...both, ...back]);
      assert.deepEqual(await world.moment(), fails ? later : atA);
      await world.mustBeInOrder();
      await world.close();
    }
  });

  test("a disk with the name of the copy is in the way, and stays what it is", async () => {
    const world = await savedOnce();
    await world.vdis.create("vm1.memory.load", 2 ** 20);
    const loading = world.control.call("vm.loadvm", { name, snapshot: "a" });
    await assert.rejects(loading, /a disk "vm1\.memory\.load" already; the VM is as it was$/);
    assert.deepEqual(await world.moment(), later);
    assert.equal(world.vdis.point("vm1.memory.load").sizeBytes, 2 ** 20);
    await world.vdis.delete("vm1.memory.load");
    await world.control.call("vm.loadvm", { name, snapshot: "a" });
    assert.deepEqual(await world.moment(), atA);
    await world.close();
  });
});
