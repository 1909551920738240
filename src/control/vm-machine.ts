import { assert } from "../base/assert.ts";
import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Address } from "../host/net.ts";
import { connectAgent, type GuestAgent } from "../qmp/agent.ts";
import type { Vdis } from "../vdi/vdis.ts";
import type { VmPending, VmRecord, VmSnapshot } from "../vdi/vm-record.ts";
import { dropCopy, makeCopy } from "./vm-copy.ts";
import { type SortedDrives, sortDrives } from "./vm-drives.ts";
import type { ImagePlace, VmMonitor } from "./vm-monitor.ts";

/** A VM with its QEMU at hand, for one operation; nobody else has it meanwhile. */
export class VmMachine {
  readonly name: string;
  readonly monitor: VmMonitor;
  readonly #directory: string;
  readonly #vdis: Vdis;
  readonly #host: Host;
  readonly #served: readonly Address[];
  /** Where QEMU has its disks, when it has been settled. */
  #server: Address | undefined;

  /** `directory` is the VM's own. */
  constructor(
    settings: { name: string; directory: string; served: readonly Address[] },
    components: { vdis: Vdis; monitor: VmMonitor; host: Host },
  ) {
    this.name = settings.name;
    this.#directory = settings.directory;
    this.#served = settings.served;
    this.#vdis = components.vdis;
    this.#host = components.host;
    this.monitor = components.monitor;
  }

  get record(): VmRecord {
    return this.#vdis.registry.vms.find(this.name);
  }

  /** One catalog record. */
  change(change: Partial<VmRecord>): Promise<void> {
    return this.#vdis.note([{ type: "vm", record: { ...this.record, ...change } }]);
  }

  async drives(leaveOut: readonly string[]): Promise<SortedDrives> {
    return sortDrives(await this.monitor.drives(), {
      vm: this.name,
      served: this.#served,
      // Not whether it is connected: QEMU connects again when its guest wants something.
      isDisk: (name) => this.#vdis.registry.working.has(name),
      leaveOut,
    });
  }

  /**
   * Makes sure that QEMU is as the record has it, and brings to an end what was begun and not finished.
   * Throws what is in the way; then nothing has been changed.
   */
  async settle(): Promise<void> {
    const { monitor } = this;
    await monitor.settleJobs();
    const drives = await this.drives(this.record.leftOut);
    this.#mustBeTheDisks(drives.disks);
    const { memory } = this.record;
    const server = drives.server ?? this.#served[0];
    if (server === undefined) throw new KelpieError("closed", "nothing is served over NBD");
    this.#server = server;
    const empty = this.#vdis.point(memory).mappedBlocks === 0;
    const isNew = await monitor.addMemory({ name: memory, server, empty });
    const { pending } = this.record;
    if (pending !== null) {
      // A QEMU that did not have the memory VDI is another one than that in which it was begun.
      if (isNew && pending.kind !== "begin") await this.over();
      else await this.finish(pending);
    }
    await this.forgetStates();
  }

  /**
   * Gives QEMU a copy of the memory VDI as it is now, to load from, and says in the same record what for.
   * It must have been settled; what it holds of its tables may be older than what is there, no more.
   */
  async openCopy(pending: VmPending): Promise<void> {
    const server = this.#server;
    assert(server !== undefined, "a machine is settled before it loads");
    const { copy, ...left } = this.record.pending ?? pending;
    if (copy !== undefined) await this.#close({ pending: left });
    const name = await makeCopy(this.#vdis, this.record, pending);
    await this.monitor.addCopy({ name, server });
  }

  /**
   * Where QEMU can best keep what its memory is now, while another state is loaded: in a file of this
   * machine, or in the memory VDI if it cannot make one: it is another user's, or locked in, or elsewhere.
   */
  async openSpare(): Promise<ImagePlace> {
    if (this.record.monitor.kind !== "unix") return "memory";
    const { files, log } = this.#host;
    const path = `${this.#directory}/spare.qcow2`;
    try {
      await files.makeDirectory(this.#directory, 0o700);
      await this.monitor.addSpare(path);
      return "spare";
    } catch (error) {
      if (!isKelpieError(error)) throw error;
      log.info("vm has no spare file", { vm: this.name, error: messageOf(error) });
      await this.monitor.removeImage("spare");
      return "memory";
    } finally {
      await files.remove(path).catch((error) => {
        if (!isKelpieError(error)) throw error;
      });
    }
  }

  /** What was begun has come to its end, and what was made for it goes. */
  async over(): Promise<void> {
    if (this.record.pending !== null) await this.#close({ pending: null });
  }

  /** Whoever opens it closes it. */
  async openAgent(): Promise<GuestAgent> {
    const { agent } = this.record;
    if (agent !== undefined)
      return await connectAgent({ address: agent, name: this.name }, this.#host);
    throw new KelpieError(
      "unsupported",
      `where VM "${this.name}" has its guest agent is not known`,
      {
        remedy: `kelpie vm attach ${this.name} --agent ADDR says it: QEMU's socket of that port.`,
      },
    );
  }

  /** What was begun is undone, but for what only had to go on. The guest runs if it had been running. */
  async finish(pending: VmPending): Promise<void> {
    const { image, kind, wasRunning } = pending;
    if (kind === "thaw") await this.#thaw();
    else if (image !== null && kind === "begin") await this.#begin(image, pending);
    else if (image !== null && kind === "load") await this.#loadBack(image);
    if (wasRunning && kind !== "thaw") await this.monitor.resume();
    await this.over();
  }

  /** States that no snapshot has: of deleted ones, and of what was broken off. */
  async forgetStates(): Promise<void> {
    const wanted = new Set(this.record.snapshots.map(({ image }) => image));
    for (const { name } of await this.monitor.states()) {
      if (!wanted.has(name)) await this.monitor.deleteState(name);
    }
  }

  /** Changes the record. QEMU lets go of what was made for an operation, if something was, and it goes. */
  async #close(change: Pick<VmRecord, "pending">): Promise<void> {
    if (this.record.pending?.copy !== undefined) {
      await this.monitor.removeImage("copy");
      await this.monitor.removeImage("spare");
    }
    await dropCopy(this.#vdis, this.record, change);
  }

  async #begin(image: string, pending: VmPending): Promise<void> {
    if (!(await this.#has(image, "memory"))) {
      throw new KelpieError("corrupt", `the state that VM "${this.name}" begins with is gone`);
    }
    await this.openCopy(pending);
    await this.monitor.pause();
    await this.monitor.loadState(image, "copy");
  }

  /** What the memory was, if it had been saved before something else was to be loaded. */
  async #loadBack(image: string): Promise<void> {
    for (const place of ["spare", "memory"] as const) {
      if (!(await this.#has(image, place))) continue;
      await this.monitor.pause();
      await this.monitor.loadState(image, place);
      return;
    }
  }

  async #has(image: string, place: ImagePlace): Promise<boolean> {
    return (await this.monitor.states(place)).some(({ name }) => name === image);
  }

  async #thaw(): Promise<void> {
    const agent = await this.openAgent();
    try {
      await agent.thaw();
    } finally {
      agent.close();
    }
  }

  #mustBeTheDisks(disks: readonly string[]): void {
    const { disks: expected } = this.record;
    const remedy = `kelpie vm attach ${this.name} takes it as it is now.`;
    const missing = expected.find((name) => !disks.includes(name));
    if (missing !== undefined) {
      const message = `VM "${this.name}" does not have its disk "${missing}" any more`;
      throw new KelpieError("busy", message, { remedy });
    }
    const added = disks.find((name) => !expected.includes(name));
    if (added === undefined) return;
    throw new KelpieError("busy", `VM "${this.name}" has a disk more, "${added}"`, { remedy });
  }
}

/** By id ("2", "#2") or tag. Throws "not-found". */
export function findVmSnapshot(record: VmRecord, selector: string): VmSnapshot {
  const id = /^#?(\d+)$/.exec(selector)?.[1];
  const found = record.snapshots.find((snapshot) =>
    id === undefined ? snapshot.tag === selector : snapshot.id === Number(id),
  );
  if (found !== undefined) return found;
  throw new KelpieError("not-found", `VM "${record.name}" has no snapshot "${selector}"`, {
    remedy: `\`kelpie vm snapshots ${record.name}\` lists them.`,
  });
}

/** Runs a part of an operation; what it throws says which part it was, and how things are now. */
export async function step<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw new StepError(what, error);
  }
}

export class StepError extends Error {
  readonly step: string;

  constructor(step: string, cause: unknown) {
    super(`${step} failed`, { cause });
    this.step = step;
  }
}
