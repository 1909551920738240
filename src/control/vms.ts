import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Address } from "../host/net.ts";
import { NameLocks } from "../vdi/name-locks.ts";
import type { Vdis } from "../vdi/vdis.ts";
import type { VmLaunch, VmRecord, VmSnapshot } from "../vdi/vm-record.ts";
import type { Progress } from "./calls.ts";
import { dropCopy } from "./vm-copy.ts";
import { findVmSnapshot, VmMachine } from "./vm-machine.ts";
import { VmMonitor } from "./vm-monitor.ts";
import { checkVmName, memoryOf, mustBeUnused, vmExists } from "./vm-names.ts";
import { metered } from "./vm-progress.ts";
import { vmSockets } from "./vm-qemu.ts";
import { quiesced } from "./vm-quiesce.ts";
import { loadVm, saveVm, type VmOperationComponents, withoutSnapshot } from "./vm-save.ts";

/** A monitor that is asked how it is. */
const glancePatienceMs = 1000;
/** One that is to do something. It may be waiting for its disks' server, which is us. */
const workPatienceMs = 30_000;
/** After opening, VMs with something unfinished are tried so often until they answer. */
const recoverAgainMs = 2000;
/** A QEMU that ends is waited for, up to ten seconds. */
const endLookMs = 50;
const endLooksMax = 200;
/** More than all its states will ever take: a VDI takes only what is written. */
const memoryVdiBytes = 2 ** 40;
/** Of a Unix socket's path (unix(7)), less the longest name of one. */
const directoryBytesMax = 107 - "/serial.sock".length;

/** How long an operation took, and how long the guest stood still in that. */
export interface Took {
  tookMs: number;
  pausedMs: number;
}

export interface VmsSettings {
  /** Where the store is: the VMs' sockets lie below it. */
  directory: string;
}

/** The virtual machines of a store. One operation on a VM at a time. */
export class Vms {
  readonly #directory: string;
  readonly #vdis: Vdis;
  readonly #host: Host;
  readonly #locks = new NameLocks();
  #served: readonly Address[] = [];
  #recovering: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(settings: VmsSettings, components: { vdis: Vdis; host: Host }) {
    this.#directory = settings.directory;
    this.#vdis = components.vdis;
    this.#host = components.host;
  }

  /** Says where the disks are served. Brings to an end what an earlier process left unfinished. */
  serve(addresses: readonly Address[]): void {
    this.#served = addresses;
    this.#recovering = this.#recover();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#recovering;
  }

  /** Where a QEMU of this machine best reaches the disks. */
  get server(): Address | undefined {
    return this.#served.find(({ kind }) => kind === "unix") ?? this.#served[0];
  }

  directoryOf(name: string): string {
    return `${this.#directory}/vm/${name}`;
  }

  /** "off", "unknown" if its monitor does not answer, or QEMU's word. */
  async stateOf(record: VmRecord): Promise<string> {
    let monitor: VmMonitor;
    try {
      monitor = await this.#open(record, glancePatienceMs);
    } catch (error) {
      if (!isKelpieError(error)) throw error;
      return error.code === "not-found" ? "off" : "unknown";
    }
    try {
      return (await monitor.status()).state;
    } catch (error) {
      if (!isKelpieError(error)) throw error;
      return "unknown";
    } finally {
      monitor.close();
    }
  }

  /** Makes a VM that is to be started, or changes how one is that is off. */
  create(
    name: string,
    request: { disks: readonly string[] | undefined; launch: VmLaunch; share: boolean },
  ): Promise<void> {
    checkVmName(name);
    return this.#locks.run([name], async () => {
      this.#mustBeServed(`vm run ${name}`);
      const { launch, share } = request;
      const before = this.#vdis.registry.vms.get(name);
      if (before !== undefined) await this.#mustBeOff(before);
      const disks = [...(request.disks ?? before?.disks ?? [])];
      this.#mustBeFree(name, disks, share);
      const sockets = await this.#makeDirectory(name);
      const begins = before?.pending?.kind === "begin" ? before.pending : null;
      const record = before ?? (await this.#newRecord(name, sockets.monitor));
      const changed = { ...sockets, disks, launch, pending: begins };
      if (begins !== null) await this.#put({ ...record, ...changed });
      else await dropCopy(this.#vdis, record, changed);
    });
  }

  /** Takes over a QEMU that runs. */
  attach(
    name: string,
    request: {
      monitor?: Address | undefined;
      agent?: Address | undefined;
      leaveOut: readonly string[];
      share: boolean;
      begin: boolean;
    },
  ): Promise<void> {
    checkVmName(name);
    return this.#locks.run([name], async () => {
      this.#mustBeServed(`vm attach ${name}`);
      const before = this.#vdis.registry.vms.get(name);
      const address = request.monitor ?? before?.monitor;
      if (address === undefined) this.#vdis.registry.vms.find(name);
      const monitor = await this.#open({ name, monitor: address as Address }, workPatienceMs);
      try {
        monitor.mustBeNewEnough();
        const machine = this.#machine(name, monitor);
        const { disks, leftOut } = await machine.drives(request.leaveOut);
        this.#mustBeFree(name, disks, request.share);
        const record = before ?? (await this.#newRecord(name, address as Address));
        const agent = request.agent ?? record.agent;
        await this.#put({ ...record, monitor: address as Address, agent, disks, leftOut });
        // A VM that is on its way here has its disks when it has come; the rest is for then.
        if ((await monitor.status()).state === "inmigrate") return;
        try {
          await machine.settle();
        } catch (error) {
          if (before === undefined) await this.#forget(machine.record, [record.memory]);
          else await this.#put(before);
          throw error;
        }
        if (request.begin && (await monitor.status()).state === "prelaunch") await monitor.resume();
      } finally {
        monitor.close();
      }
    });
  }

  save(
    name: string,
    request: { tag: string | undefined; replace: boolean },
    progress?: (progress: Progress) => void,
  ): Promise<{ id: number } & Took> {
    return this.#with(name, { what: "savevm", progress }, (machine, components) =>
      saveVm(machine, request, components),
    );
  }

  load(
    name: string,
    selector: string,
    progress?: (progress: Progress) => void,
  ): Promise<{ id: number } & Took> {
    return this.#with(name, { what: "loadvm", progress }, async (machine, components) => {
      const snapshot = findVmSnapshot(machine.record, selector);
      return { id: snapshot.id, ...(await loadVm(machine, snapshot, components)) };
    });
  }

  /** Works while the VM is off, too: its memory's state then goes when it is next attached. */
  deleteSnapshot(name: string, selector: string): Promise<VmSnapshot> {
    return this.#locks.run([name], async () => {
      const record = this.#vdis.registry.vms.find(name);
      const snapshot = findVmSnapshot(record, selector);
      // Somebody may have taken a disk's snapshot away before VMs kept hold of them.
      const points = snapshot.disks
        .map(({ point }) => point)
        .filter((point) => this.#vdis.registry.snapshotAt(point) !== undefined);
      const notes = [{ type: "vm" as const, record: withoutSnapshot(record, snapshot) }];
      await this.#vdis.deleteSnapshots(points, notes);
      if ((await this.stateOf(record)) !== "off") await this.#settled(name, async () => {});
      return snapshot;
    });
  }

  /** Clones of the disks and of the saved memory, for a VM that goes on from there when it is started. */
  branch(name: string, selector: string, as: string, more?: readonly string[]): Promise<void> {
    checkVmName(as);
    return this.#locks.run([name, as], async () => {
      const { registry } = this.#vdis;
      const record = registry.vms.find(name);
      const snapshot = findVmSnapshot(record, selector);
      if (registry.vms.get(as) !== undefined) throw vmExists(as);
      if (record.launch === null) {
        throw new KelpieError("unsupported", `Kelpie did not start VM "${name}"`, {
          remedy:
            "How its QEMU is to be started is known of a VM that `kelpie vm run` has started.",
        });
      }
      const disks = record.disks.map((disk) => `${as}-${disk}`);
      const clones = snapshot.disks.map(({ name: disk, point }) => ({
        point,
        name: `${as}-${disk}`,
      }));
      const branched: VmRecord = {
        ...record,
        ...(await this.#makeDirectory(as)),
        name: as,
        disks,
        memory: memoryOf(as),
        snapshots: [],
        nextId: 1,
        current: null,
        launch: more === undefined ? record.launch : { ...record.launch, arguments: [...more] },
        pending: { kind: "begin", image: snapshot.image, wasRunning: true },
      };
      const now = { source: record.memory, name: branched.memory };
      await this.#vdis.cloneEach(clones, now, [{ type: "vm", record: branched }]);
    });
  }

  /** A line for QEMU's monitor. */
  async command(name: string, line: string): Promise<string> {
    const monitor = await this.#open(this.#vdis.registry.vms.find(name), workPatienceMs);
    try {
      return await monitor.command(line);
    } finally {
      monitor.close();
    }
  }

  /** False if it was off. Throws "busy" if the guest does not shut down in time. */
  stop(name: string, request: { force: boolean; timeoutMs: number }): Promise<boolean> {
    return this.#locks.run([name], async () => {
      const record = this.#vdis.registry.vms.find(name);
      let monitor: VmMonitor;
      try {
        monitor = await this.#open(record, workPatienceMs);
      } catch (error) {
        if (!isKelpieError(error, "not-found")) throw error;
        return false;
      }
      try {
        if (request.force) await monitor.quit();
        else await this.#powerDown(name, monitor, request.timeoutMs);
        await this.#untilOff(record);
        return true;
      } finally {
        monitor.close();
      }
    });
  }

  /** With its snapshots and its memory; with `disks` its disks too. Only when it is off. */
  delete(name: string, disks: boolean): Promise<void> {
    return this.#locks.run([name], async () => {
      const record = this.#vdis.registry.vms.find(name);
      await this.#mustBeOff(record);
      if (record.pending !== null) await dropCopy(this.#vdis, record, { pending: null });
      await this.#forget(record, disks ? [record.memory, ...record.disks] : [record.memory]);
    });
  }

  /**
   * Runs `action`, which snapshots the disks, while the guests that have them hold their file systems
   * still. A VM that is off writes nothing anyway.
   */
  async quiesced<T>(disks: readonly string[], action: () => Promise<T>): Promise<T> {
    const names = disks.flatMap((disk) => this.#usersOf(disk));
    return await this.#locks.run(names, async () => {
      let frozen = action;
      for (const name of new Set(names)) {
        if ((await this.stateOf(this.#vdis.registry.vms.find(name))) === "off") continue;
        this.#mustBeServed(`quiescing VM "${name}"`);
        const inner = frozen;
        frozen = () => this.#settled(name, (machine) => quiesced(machine, inner));
      }
      try {
        return await frozen();
      } finally {
        this.#recoverLater(names);
      }
    });
  }

  /** Something done with a VM's memory, and then what nobody needs any more thrown away. */
  #with<T extends { pausedMs: number }>(
    name: string,
    { what, progress }: { what: string; progress: ((progress: Progress) => void) | undefined },
    action: (machine: VmMachine, components: VmOperationComponents) => Promise<T>,
  ): Promise<T & Took> {
    const { clock, timers } = this.#host;
    const done = this.#locks.run([name], () => {
      this.#mustBeServed(`${what} ${name}`);
      const startMs = clock.monotonicMs();
      return this.#settled(name, async (machine) => {
        const { memory } = machine.record;
        const done = await metered({ memory, progress }, { timers, vdis: this.#vdis }, (meter) =>
          action(machine, { vdis: this.#vdis, clock, meter }),
        );
        return { ...done, tookMs: clock.monotonicMs() - startMs };
      });
    });
    return done.finally(() => this.#recoverLater([name]));
  }

  /** The lock must be held. */
  async #settled<T>(name: string, action: (machine: VmMachine) => Promise<T>): Promise<T> {
    const record = this.#vdis.registry.vms.find(name);
    const monitor = await this.#open(record, workPatienceMs);
    try {
      const machine = this.#machine(name, monitor);
      await machine.settle();
      return await action(machine);
    } finally {
      monitor.close();
    }
  }

  #open(vm: { name: string; monitor: Address }, patienceMs: number): Promise<VmMonitor> {
    const { name, monitor } = vm;
    return VmMonitor.open({ name, monitor, patienceMs }, this.#host);
  }

  #machine(name: string, monitor: VmMonitor): VmMachine {
    const components = { vdis: this.#vdis, monitor, host: this.#host };
    const directory = this.directoryOf(name);
    return new VmMachine({ name, directory, served: this.#served }, components);
  }

  /** What one of these could not bring to an end is tried again in the background. */
  #recoverLater(names: readonly string[]): void {
    const { vms } = this.#vdis.registry;
    if (this.#closed || !names.some((name) => (vms.get(name)?.pending ?? null) !== null)) return;
    this.#recovering = this.#recovering.then(() => this.#recover());
  }

  async #recover(): Promise<void> {
    const names = () =>
      this.#vdis.registry.vms
        .all()
        .filter(({ pending }) => pending !== null && pending.kind !== "begin")
        .map(({ name }) => name);
    for (let left = names(); left.length > 0 && !this.#closed; left = names()) {
      for (const name of left) await this.#locks.run([name], () => this.#recoverOne(name));
      if (names().length === 0) return;
      await new Promise<void>((resolve) => {
        this.#host.timers.after(recoverAgainMs, resolve);
      });
    }
  }

  async #recoverOne(name: string): Promise<void> {
    const { log } = this.#host;
    const record = this.#vdis.registry.vms.get(name);
    if (record === undefined || record.pending === null) return;
    try {
      await this.#settled(name, async () => {});
      log.info("vm brought in order", { vm: name, was: record.pending.kind });
    } catch (error) {
      if (!isKelpieError(error)) throw error;
      // Off: with its QEMU went the memory that was half saved or half loaded; disks are as they were.
      if (error.code === "not-found") await dropCopy(this.#vdis, record, { pending: null });
      else log.warn("vm not brought in order yet", { vm: name, error: messageOf(error) });
    }
  }

  /** Its monitor is gone; the process takes a moment more to close what it had open. */
  async #untilOff(record: VmRecord): Promise<void> {
    for (let look = 0; look < endLooksMax; look++) {
      if ((await this.stateOf(record)) === "off") return;
      await new Promise<void>((resolve) => {
        this.#host.timers.after(endLookMs, resolve);
      });
    }
  }

  async #powerDown(name: string, monitor: VmMonitor, timeoutMs: number): Promise<void> {
    await monitor.powerDown();
    let late = false;
    const limit = Promise.withResolvers<void>();
    const timer = this.#host.timers.after(timeoutMs, () => {
      late = true;
      limit.resolve();
    });
    await Promise.race([monitor.gone, limit.promise]);
    timer.cancel();
    if (!late) return;
    throw new KelpieError("busy", `the guest of VM "${name}" has not shut down yet`, {
      remedy: `kelpie vm stop ${name} --force ends it at once.`,
    });
  }

  async #newRecord(name: string, monitor: Address): Promise<VmRecord> {
    const memory = memoryOf(name);
    if (!this.#vdis.registry.working.has(memory)) await this.#vdis.create(memory, memoryVdiBytes);
    else mustBeUnused(this.#vdis, memory, name);
    return {
      name,
      monitor,
      disks: [],
      leftOut: [],
      memory,
      snapshots: [],
      nextId: 1,
      current: null,
      launch: null,
      pending: null,
    };
  }

  #put(record: VmRecord): Promise<void> {
    return this.#vdis.note([{ type: "vm", record }]);
  }

  async #forget(record: VmRecord, vdis: readonly string[]): Promise<void> {
    const points = record.snapshots.flatMap(({ disks }) => disks.map(({ point }) => point));
    const left = points.filter((point) => this.#vdis.registry.snapshotAt(point) !== undefined);
    await this.#vdis.deleteSnapshots(left, [{ type: "forgetVm", name: record.name }]);
    for (const name of vdis) {
      await this.#vdis.delete(name).catch((error) => {
        // Somebody reads it, or deleted it: it is an ordinary disk now.
        if (!isKelpieError(error)) throw error;
        this.#host.log.warn("disk of a VM not deleted", { name, error: messageOf(error) });
      });
    }
  }

  /** For a VM that Kelpie starts. */
  async #makeDirectory(name: string): Promise<{ monitor: Address; agent: Address }> {
    const directory = this.directoryOf(name);
    if (Buffer.byteLength(directory) > directoryBytesMax) {
      throw new KelpieError(
        "invalid",
        `${directory}: sockets below it would have paths longer than the system takes`,
        { remedy: "Keep the store under a shorter path, or give the VM a shorter name." },
      );
    }
    await this.#host.files.makeDirectory(directory, 0o700);
    const socket = (file: string): Address => ({ kind: "unix", path: `${directory}/${file}` });
    return { monitor: socket(vmSockets.monitor), agent: socket(vmSockets.agent) };
  }

  #mustBeServed(what: string): void {
    if (this.#served.length > 0) return;
    throw new KelpieError("unsupported", `${what}: the disks are not served over NBD`, {
      remedy: "A VM's disks are those of a running `kelpie serve`.",
    });
  }

  async #mustBeOff(record: VmRecord): Promise<void> {
    const state = await this.stateOf(record);
    if (state === "off") return;
    throw new KelpieError("busy", `VM "${record.name}" is not off: it is ${state}`, {
      remedy: `kelpie vm stop ${record.name}`,
    });
  }

  #usersOf(disk: string): string[] {
    this.#vdis.registry.find(disk);
    const users = this.#vdis.registry.vms.all().filter(({ disks }) => disks.includes(disk));
    if (users.length > 0) return users.map(({ name }) => name);
    throw new KelpieError("invalid", `disk "${disk}" is no VM's: who has it cannot be asked`, {
      remedy: "A VM is one that `kelpie vm run` has started or `kelpie vm attach` has taken over.",
    });
  }

  /** A disk is one VM's, or two of them write over each other. */
  #mustBeFree(name: string, disks: readonly string[], share: boolean): void {
    for (const disk of disks) {
      this.#vdis.registry.find(disk);
      const other = this.#vdis.registry.vms
        .all()
        .find((vm) => vm.name !== name && (vm.memory === disk || vm.disks.includes(disk)));
      if (other === undefined || (share && other.memory !== disk)) continue;
      throw new KelpieError("busy", `disk "${disk}" is one of VM "${other.name}"`, {
        remedy: "Two VMs on one disk destroy it. For live migration: --share.",
      });
    }
  }
}
