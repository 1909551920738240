import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { KelpieError } from "./base/errors.ts";
import type { BlockDevice, WriteOptions, ZeroOptions } from "./block/block-device.ts";
import type { Exports } from "./block/exports.ts";
import { guardDevice } from "./block/guard.ts";
import type { CallOutput, Control, DiscardedEntry, VdiEntry } from "./control/calls.ts";
import { type LocalStore, openLocalStore } from "./control/local-store.ts";
import { familyEntries, type TreeNode, treesOf } from "./control/tree.ts";
import { Vm } from "./control/vm-handle.ts";
import type { VmEntry } from "./control/vm-shapes.ts";
import { runVm, type VmRunRequest } from "./control/vm-start.ts";
import { createNodeHost } from "./host/node/node-host.ts";
import { connectControl } from "./http/control-client.ts";
import type { KeepDiscarded } from "./vdi/retention.ts";

export { type ErrorCode, isKelpieError, KelpieError } from "./base/errors.ts";
export type { DiscardedEntry, VdiEntry } from "./control/calls.ts";
export type { TreeNode } from "./control/tree.ts";
export { Vm } from "./control/vm-handle.ts";
export type { VmEntry, VmSnapshotEntry } from "./control/vm-shapes.ts";
export type { KeepDiscarded } from "./vdi/retention.ts";

export interface OpenStoreOptions {
  /** Make the store if there is none. Default: true. */
  create?: boolean;
  /** How long, and for which share of the space, what a rollback or delete set aside is kept. */
  keepDiscarded?: KeepDiscarded;
  /** For maps, in bytes. Default: 128 MiB. */
  mapBytesMax?: number;
}

/**
 * Opens a store in this process. `url` is a directory, as a path or a file: URL. One process at a time
 * has a store open: "busy" if another one has.
 */
export async function openStore(url: string, options: OpenStoreOptions = {}): Promise<KelpieStore> {
  const directory = directoryOf(url);
  const host = createNodeHost({});
  const store = await openLocalStore({ create: true, ...options, directory }, { host });
  return new KelpieStore(store);
}

/**
 * Asks the server that has a store open; "not-found" if none does. `url` is the store's directory. There is
 * nothing to close.
 */
export async function connectStore(url: string): Promise<ConnectedStore> {
  const directory = directoryOf(url);
  const running = await connectControl(`${directory}/control.sock`);
  if (running !== undefined) return new ConnectedStore(running.control);
  throw new KelpieError("not-found", `no server has the store ${directory} open`, {
    remedy: "`kelpie serve` is one.",
  });
}

/** A store that a server has open: its virtual machines, and all that the command line can ask for. */
export class ConnectedStore {
  /** Every operation of the product by name, as the command line uses it. */
  readonly control: Control;

  /** @internal Use `connectStore`. */
  constructor(control: Control) {
    this.control = control;
  }

  /** Starts a VM on disks of the store, or starts one again that is off. Resolves when its guest runs. */
  async run(name: string, options: Partial<Omit<VmRunRequest, "name">> = {}): Promise<Vm> {
    await runVm({ directory: resolve("."), ...options, name }, this.#components);
    return this.vm(name);
  }

  /** By name; whether there is one shows when it is used. */
  vm(name: string): Vm {
    return new Vm(name, this.#components);
  }

  /** By name. */
  vms(): Promise<VmEntry[]> {
    return this.control.call("vm.list", {});
  }

  get #components() {
    return { control: this.control, processes: createNodeHost({}).processes };
  }
}

/** An open store. Close it, or let `await using` do that. */
export class KelpieStore implements AsyncDisposable {
  readonly #store: LocalStore;

  /** @internal Use `openStore`. */
  constructor(store: LocalStore) {
    this.#store = store;
  }

  /** Every operation of the product by name, as the command line uses it. */
  get control(): Control {
    return this.#store.control;
  }

  /** What an NBD server of this process would offer. */
  get exports(): Exports {
    return this.#store.exports;
  }

  /** Makes a disk that reads as zeros. `sizeBytes` is a multiple of 512. */
  async create(name: string, sizeBytes: number): Promise<Disk> {
    await this.control.call("vdi.create", { name, sizeBytes });
    return this.disk(name);
  }

  /** The working VDI of a name. "not-found" if there is none. */
  disk(name: string): Disk {
    this.#store.vdis.registry.find(name);
    return new Disk(name, this.#store);
  }

  /** Working VDIs and snapshots, by name, then by snap id. */
  list(name?: string): Promise<VdiEntry[]> {
    return this.control.call("vdi.list", name === undefined ? {} : { name });
  }

  /** Families as trees; the one of a disk if it is named. */
  async tree(name?: string): Promise<TreeNode[]> {
    const entries = await this.list();
    return treesOf(name === undefined ? entries : familyEntries(entries, name));
  }

  /** What rollbacks and deletes set aside, and when it will be purged. */
  discarded(name?: string): Promise<DiscardedEntry[]> {
    return this.control.call("vdi.discarded", name === undefined ? {} : { name });
  }

  /** One snapshot of each disk, all of the same moment. */
  snapshot(names: string[], tag?: string): Promise<VdiEntry[]> {
    return this.control.call("vdi.snapshot", tag === undefined ? { names } : { names, tag });
  }

  /** Takes all the disks back to their snapshots of that tag or id, in one step. */
  rollback(names: string[], snapshot: string): Promise<VdiEntry[]> {
    return this.control.call("vdi.rollback", { names, snapshot, live: true });
  }

  /** Brings back what a rollback or delete set aside; undoes a rollback. */
  async undelete(name: string, options: { point?: number; as?: string } = {}): Promise<Disk> {
    await this.control.call("vdi.undelete", { name, live: true, ...options });
    return this.disk(options.as ?? name);
  }

  /** Flushes and closes. The next open has nothing to recover. */
  close(): Promise<void> {
    return this.#store.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A range of a disk, in bytes. */
export interface ByteRange {
  offset: number;
  length: number;
}

/** A disk: read, write, and its history. Handles are cheap; any number of them are the same disk. */
export class Disk {
  readonly name: string;
  readonly #store: LocalStore;

  /** @internal Use `KelpieStore.disk`. */
  constructor(name: string, store: LocalStore) {
    this.name = name;
    this.#store = store;
  }

  /** In bytes. */
  get sizeBytes(): number {
    return this.#store.vdis.volume(this.name).sizeBytes;
  }

  /** Bytes from `offset` on; what was never written is zero. */
  async read(offset: number, length: number): Promise<Buffer> {
    return await readDevice(this.#device, offset, length);
  }

  /** Bytes of a snapshot, by tag or id. */
  async readSnapshot(snapshot: string, offset: number, length: number): Promise<Buffer> {
    const client = { protocol: "library" as const, peer: "this process" };
    const opened = await this.#store.exports.open(`${this.name}@${snapshot}`, client);
    try {
      return await readDevice(guardDevice(opened.device), offset, length);
    } finally {
      await opened.close();
    }
  }

  /** Safe from the death of this process when it resolves; from power loss after `flush`, or with `fua`. */
  async write(data: Uint8Array, offset: number, options?: WriteOptions): Promise<void> {
    await this.#device.write([data], offset, options);
  }

  /** Makes a range read as zeros. */
  async zero(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    await this.#device.zero(offset, length, options);
  }

  /** Says that a range is not needed any more; whole blocks of 4,096 bytes then read as zeros. */
  async trim(offset: number, length: number): Promise<void> {
    await this.#device.trim(offset, length);
  }

  /** All that was written before is safe from power loss when it resolves. */
  async flush(): Promise<void> {
    await this.#device.flush();
  }

  /** Freezes the disk as it is. Cheap, whatever its size; writers go on. */
  async snapshot(tag?: string): Promise<VdiEntry> {
    const input = tag === undefined ? {} : { tag };
    const taken = await this.#call("vdi.snapshot", { names: [this.name], ...input });
    return taken[0] as VdiEntry;
  }

  /** Newest last. */
  async snapshots(): Promise<VdiEntry[]> {
    const entries = await this.#call("vdi.list", { name: this.name });
    return entries.filter((entry) => entry.kind === "snapshot");
  }

  /** Puts the disk back on any of its snapshots. Newer ones stay; `undelete` undoes it. */
  async rollback(snapshot: string): Promise<void> {
    await this.#call("vdi.rollback", { names: [this.name], snapshot, live: true });
  }

  /** A new disk that begins as the snapshot is. */
  async clone(snapshot: string, name: string): Promise<Disk> {
    await this.#call("vdi.clone", { source: this.name, snapshot, name });
    return new Disk(name, this.#store);
  }

  /** Ranges that differ between a snapshot and another one, or the disk as it is. */
  async *diff(from: string, to?: string): AsyncGenerator<ByteRange> {
    const points = to === undefined ? { from } : { from, to };
    for (let offset: number | null = 0; offset !== null; ) {
      const page: CallOutput<"vdi.diff"> = await this.#call("vdi.diff", {
        name: this.name,
        ...points,
        offset,
      });
      for (const range of page.ranges) yield { offset: range.offset, length: range.length };
      offset = page.next;
    }
  }

  /** Grows, or with `shrink` also cuts off, the disk. */
  async resize(sizeBytes: number, options: { shrink?: boolean } = {}): Promise<void> {
    await this.#call("vdi.resize", { name: this.name, sizeBytes, ...options });
  }

  /** Of the disk, or of one of its snapshots. The disk can be brought back with `undelete`. */
  async delete(snapshot?: string): Promise<void> {
    const input = snapshot === undefined ? {} : { snapshot };
    await this.#call("vdi.delete", { name: this.name, ...input });
  }

  get #device(): BlockDevice {
    return guardDevice(this.#store.vdis.volume(this.name));
  }

  get #call(): Control["call"] {
    const { control } = this.#store;
    return (name, input) => control.call(name, input);
  }
}

async function readDevice(device: BlockDevice, offset: number, length: number): Promise<Buffer> {
  const target = Buffer.allocUnsafe(length);
  await device.read(target, offset);
  return target;
}

function directoryOf(url: string): string {
  if (url.startsWith("file:")) return fileURLToPath(url);
  if (/^[a-z0-9+]+:\/\//.test(url)) {
    throw new KelpieError("unsupported", `${url}: stores are directories of this machine`);
  }
  return resolve(url);
}
