import { KelpieError } from "../base/errors.ts";
import type { Address, Net } from "../host/net.ts";
import type { Timers } from "../host/timers.ts";
import { connectAgent, type GuestAgent } from "../qmp/agent.ts";
import type { Vdis } from "../vdi/vdis.ts";
import type { VmPending, VmRecord, VmSnapshot } from "../vdi/vm-record.ts";
import { type SortedDrives, sortDrives } from "./vm-drives.ts";
import type { VmMonitor } from "./vm-monitor.ts";

/** A VM with its QEMU at hand, for one operation; nobody else has it meanwhile. */
export class VmMachine {
  readonly name: string;
  readonly monitor: VmMonitor;
  readonly #vdis: Vdis;
  readonly #host: { net: Net; timers: Timers };
  readonly #served: readonly Address[];

  constructor(
    settings: { name: string; served: readonly Address[] },
    components: { vdis: Vdis; monitor: VmMonitor; host: { net: Net; timers: Timers } },
  ) {
    this.name = settings.name;
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

  /** Where QEMU is to look for the memory VDI: where it has its disks. */
  serverFor(drives: SortedDrives): Address {
    const found = drives.server ?? this.#served[0];
    if (found === undefined) throw new KelpieError("closed", "nothing is served over NBD");
    return found;
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
    const empty = this.#vdis.point(memory).mappedBlocks === 0;
    const isNew = await monitor.addMemory({ name: memory, server: this.serverFor(drives), empty });
    const { pending } = this.record;
    if (pending !== null) {
      const states = (await monitor.states()).map(({ name }) => name);
      // A QEMU that did not have the memory VDI is another one than that in which it was begun.
      if (isNew && pending.kind !== "begin") await this.change({ pending: null });
      else await this.finish(pending, states);
    }
    await this.forgetStates();
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
  async finish(pending: VmPending, states: readonly string[]): Promise<void> {
    const { image, kind, wasRunning } = pending;
    if (kind === "thaw") {
      await this.#thaw();
      await this.change({ pending: null });
      return;
    }
    const isThere = image !== null && states.includes(image);
    if (kind === "begin" && !isThere) {
      throw new KelpieError("corrupt", `the state that VM "${this.name}" begins with is gone`);
    }
    if (isThere && (kind === "begin" || kind === "load")) {
      await this.monitor.pause();
      await this.monitor.loadState(image);
    }
    if (wasRunning) await this.monitor.resume();
    await this.change({ pending: null });
  }

  /** States that no snapshot has: of deleted ones, and of what was broken off. */
  async forgetStates(): Promise<void> {
    const wanted = new Set(this.record.snapshots.map(({ image }) => image));
    for (const { name } of await this.monitor.states()) {
      if (!wanted.has(name)) await this.monitor.deleteState(name);
    }
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
