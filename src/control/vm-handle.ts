import type { CallOutput, Control, Progress } from "./calls.ts";
import type { VmEntry, VmSnapshotEntry } from "./vm-shapes.ts";
import { branchVm, type VmStartComponents } from "./vm-start.ts";

/** A running virtual machine, its snapshots, and how to go back to them. Handles are cheap. */
export class Vm {
  readonly name: string;
  readonly #components: VmStartComponents;

  /** @internal Use `ConnectedStore.vm`. */
  constructor(name: string, components: VmStartComponents) {
    this.name = name;
    this.#components = components;
  }

  /** How it is now. Throws "not-found" if there is no such VM. */
  async info(): Promise<VmEntry> {
    await this.snapshots();
    const all = await this.#control.call("vm.list", {});
    return all.find(({ name }) => name === this.name) as VmEntry;
  }

  /**
   * Saves memory, devices and all disks, of one moment. Without a tag it is called after the time. All or
   * nothing: when it throws, the VM is as it was.
   */
  save(
    tag?: string,
    options: { replace?: boolean; progress?: (progress: Progress) => void } = {},
  ): Promise<CallOutput<"vm.savevm">> {
    const { replace = false, progress } = options;
    const input = { name: this.name, replace, ...(tag === undefined ? {} : { tag }) };
    return this.#control.call("vm.savevm", input, progress === undefined ? {} : { progress });
  }

  /** Puts all of it back to a snapshot, by tag or id. All or nothing. */
  load(
    snapshot: string,
    options: { progress?: (progress: Progress) => void } = {},
  ): Promise<CallOutput<"vm.loadvm">> {
    return this.#control.call("vm.loadvm", { name: this.name, snapshot }, options);
  }

  /** Deletes a snapshot: its disks' snapshots and its memory together. */
  async deleteSnapshot(snapshot: string): Promise<void> {
    await this.#control.call("vm.delvm", { name: this.name, snapshot });
  }

  /** Oldest first. */
  snapshots(): Promise<VmSnapshotEntry[]> {
    return this.#control.call("vm.snapshots", { name: this.name });
  }

  /** Starts a second VM that goes on from a snapshot of this one, on clones of its disks. */
  async branch(snapshot: string, as: string): Promise<Vm> {
    await branchVm({ name: this.name, snapshot, as }, this.#components);
    return new Vm(as, this.#components);
  }

  /** A line for QEMU's monitor; what it printed. */
  async command(line: string): Promise<string> {
    return (await this.#control.call("vm.command", { name: this.name, line })).output;
  }

  /** Asks the guest to shut down and waits for it; with `force` ends its QEMU at once. */
  async stop(options: { force?: boolean } = {}): Promise<void> {
    await this.#control.call("vm.stop", { name: this.name, force: options.force === true });
  }

  get #control(): Control {
    return this.#components.control;
  }
}
