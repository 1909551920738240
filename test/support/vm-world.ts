import assert from "node:assert/strict";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost, type MemoryHost } from "../../sim/memory-host.ts";
import type { Control } from "../../src/control/calls.ts";
import { createControl } from "../../src/control/control.ts";
import { Vms } from "../../src/control/vms.ts";
import type { Address } from "../../src/host/net.ts";
import { openDirectoryBackend } from "../../src/store/backend/directory.ts";
import { checkStore } from "../../src/store/check.ts";
import { VdiObjects } from "../../src/vdi/objects/vdi-objects.ts";
import { Vdis } from "../../src/vdi/vdis.ts";
import { FakeAgent } from "./fake-agent.ts";
import { FakeQemu } from "./fake-qemu.ts";
import { MemoryNet } from "./memory-net.ts";
import { byteAt, filled } from "./memory-vdis.ts";

export const monitor = { kind: "unix", path: "/run/vm1.qmp" } as const;
export const agentSocket = { kind: "unix", path: "/run/vm1.agent" } as const;
export const nbdSocket = { kind: "unix", path: "/store/nbd.sock" } as const;
const diskBytes = 2 ** 20;

/** What the guest has in memory and on both disks; all of one moment if they are the same. */
export interface Moment {
  memory: string;
  root: number;
  data: number;
}

/** A store in memory, served at `nbdSocket`, and a QEMU that has two of its disks. */
export class VmWorld {
  readonly vdis: Vdis;
  readonly vms: Vms;
  readonly control: Control;
  readonly host: MemoryHost;
  readonly net: MemoryNet;
  readonly qemu: FakeQemu;
  /** In the guest of "vm1", when it is attached with `agentSocket`. */
  readonly agent: FakeAgent;

  /** With VM "vm1" attached. */
  static async attached(): Promise<VmWorld> {
    const world = await VmWorld.open();
    await world.control.call("vm.attach", { name: "vm1", monitor, agent: agentSocket });
    return world;
  }

  static async open(left?: {
    files: MemoryFiles;
    qemu: FakeQemu;
    agent?: FakeAgent;
    net: MemoryNet;
  }): Promise<VmWorld> {
    const host = createMemoryHost(left === undefined ? { seed: 1 } : { seed: 2, ...left });
    const backend = await openDirectoryBackend({ root: "/store" }, host);
    const settings = { directory: "/store", create: true, segmentBytesMax: 2 ** 20 };
    const vdis = await Vdis.open(settings, { host, backend });
    const net = left?.net ?? new MemoryNet();
    const qemu = left?.qemu ?? new FakeQemu();
    const agent = left?.agent ?? new FakeAgent();
    const world = new VmWorld({ vdis, host, net, qemu, agent });
    if (left === undefined) {
      for (const name of ["root", "data"]) {
        await vdis.create(name, diskBytes);
        const file = `nbd+unix:///${name}?socket=${nbdSocket.path}`;
        qemu.nodes.set(`node-${name}`, { driver: "nbd", file, isDrive: true });
      }
      await qemu.listen(net, monitor);
      await agent.listen(net, agentSocket);
      await world.guest("fresh", 1);
    }
    for (const name of ["root", "data"]) world.connectDisk(name);
    qemu.originOf = (file) => (/\.load\?/.test(file) ? file.replace(".load?", "?") : undefined);
    qemu.onFormat = async (file) => {
      const name = /\/\/\/(.*)\?/.exec(file)?.[1];
      if (name === undefined) return; // not of this store
      await world.vdis.volume(name).write(filled(1), 0);
    };
    world.vms.serve([nbdSocket]);
    return world;
  }

  private constructor(parts: {
    vdis: Vdis;
    host: MemoryHost;
    net: MemoryNet;
    qemu: FakeQemu;
    agent: FakeAgent;
  }) {
    this.agent = parts.agent;
    this.vdis = parts.vdis;
    this.host = parts.host;
    this.net = parts.net;
    this.qemu = parts.qemu;
    const { vdis, net } = this;
    this.vms = new Vms({ directory: "/store" }, { vdis, host: { ...parts.host, net } });
    const objects = new VdiObjects({ locking: false }, { vdis });
    this.control = createControl({ url: "/store" }, { vdis, vms: this.vms, objects });
  }

  /** As QEMU's NBD client does. */
  connectDisk(name: string): void {
    const client = { protocol: "nbd" as const, peer: "unix", export: name, readOnly: false };
    this.vdis.attachments.add(name, client);
  }

  /** The guest changes its memory, and the same on both disks. */
  async guest(word: string, byte: number): Promise<void> {
    this.qemu.memory = word;
    for (const name of ["root", "data"]) await this.vdis.volume(name).write(filled(byte), 0);
  }

  async moment(): Promise<Moment> {
    return {
      memory: this.qemu.memory,
      root: await byteAt(this.vdis.volume("root"), 0),
      data: await byteAt(this.vdis.volume("data"), 0),
    };
  }

  /** The process dies, here and now; another one opens what is left, with the same QEMU running. */
  die(): MemoryFiles {
    const files = this.host.files.crashKeepingEverything();
    this.qemu.vanish();
    return files;
  }

  /** Virtual time passes until `done`. */
  async until(done: () => boolean): Promise<void> {
    for (let turn = 0; turn < 200 && !done(); turn++) await this.host.time.advance(100);
    assert.ok(done(), "it did not come to that");
  }

  /** No image or VDI but those of snapshots, nothing unfinished, nothing wrong in the store. */
  async mustBeInOrder(): Promise<void> {
    const record = this.vdis.registry.vms.find("vm1");
    assert.equal(record.pending, null);
    const wanted = record.snapshots.map(({ image }) => image).sort();
    assert.deepEqual(this.qemu.imagesOf("kelpie-memory").sort(), wanted);
    const ours = [...this.qemu.nodes.keys()].filter((node) => node.startsWith("kelpie-"));
    assert.deepEqual(ours.sort(), ["kelpie-memory", "kelpie-memory-file"]);
    const working = [...this.vdis.registry.working.keys()].sort();
    assert.deepEqual(working, ["data", "root", "vm1.memory"]);
    const { findings } = await checkStore(this.vdis.store, { repair: false, describe: () => "" });
    assert.deepEqual(findings, []);
  }

  async close(): Promise<void> {
    await this.vms.close();
    await this.vdis.close();
  }
}

export const name = "vm1";

/** Saved as "a" with one content, running with another. */
export async function savedOnce(): Promise<VmWorld> {
  const world = await VmWorld.attached();
  await world.guest("at-a", 2);
  await world.control.call("vm.savevm", { name, tag: "a" });
  await world.guest("later", 3);
  world.qemu.log.length = 0;
  return world;
}

export const atA = { memory: "at-a", root: 2, data: 2 };
export const later = { memory: "later", root: 3, data: 3 };

/** As if Kelpie had started "vm1" itself: it knows how to start one more. */
export async function asIfStarted(world: VmWorld): Promise<void> {
  const record = world.vdis.registry.vms.find(name);
  const launch = { memory: "1G", arguments: ["-snapshot"], directory: "/" };
  await world.vdis.note([{ type: "vm", record: { ...record, launch } }]);
}

/** The QEMU of a branch of "vm1", as it is started: with the clones, standing still, with vm1's states. */
export async function startBranch(
  world: VmWorld,
  vm: { name: string; disks: readonly string[]; monitor: Address },
): Promise<FakeQemu> {
  const formatted = new Map(
    [...world.qemu.formatted].map(([file, images]) => [
      file.replace("vm1.memory", `${vm.name}.memory`),
      [...images],
    ]),
  );
  const qemu = new FakeQemu(formatted);
  qemu.originOf = world.qemu.originOf;
  qemu.isRunning = false;
  for (const disk of vm.disks) {
    world.connectDisk(disk);
    const file = `nbd+unix:///${disk}?socket=${nbdSocket.path}`;
    qemu.nodes.set(disk, { driver: "nbd", file, isDrive: true });
  }
  await qemu.listen(world.net, vm.monitor);
  return qemu;
}
