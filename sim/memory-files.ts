import { posix } from "node:path";
import { KelpieError } from "../src/base/errors.ts";
import type { FileLock, FileStat, Files, OpenMode, Space } from "../src/host/files.ts";
import { type Crash, type Inode, MemoryDisk } from "./memory-disk.ts";
import {
  type BeforeOperation,
  type Fault,
  type FileOperation,
  faultError,
  MemoryFaults,
} from "./memory-faults.ts";
import type { MemoryFile } from "./memory-file.ts";
import { MemoryFileHandle } from "./memory-file-handle.ts";
import type { Chooser } from "./random.ts";

export interface MemoryFilesSettings {
  /** Of the disk; 1 GiB by default. Contents count in pages of 4 KiB, names not at all. */
  capacityBytes?: number;
  before?: BeforeOperation;
}

/**
 * Files in memory that keep what was synced, and lose what POSIX allows to be lost, when told to
 * crash. A crash gives the files that are found afterwards; these are dead from then on: whatever
 * still runs on them fails with "closed" and touches nothing.
 *
 * An operation takes effect when it is called, unless `before` holds it back.
 */
export class MemoryFiles implements Files {
  /** Asked before every operation; may be changed at any time. */
  before: BeforeOperation | undefined;
  /** The same between an operation's effect and its answer. */
  after: BeforeOperation | undefined;
  readonly #disk: MemoryDisk;
  readonly #faults = new MemoryFaults();
  readonly #locked = new Set<Inode>();
  #crashed = false;

  constructor(settings: MemoryFilesSettings = {}, disk?: MemoryDisk) {
    this.before = settings.before;
    this.#disk = disk ?? new MemoryDisk(settings.capacityBytes ?? 2 ** 30);
  }

  /**
   * A power failure: of what was not synced the chooser keeps some, sector by sector, name by name.
   */
  crash(chooser: Chooser): MemoryFiles {
    return this.#crash({ kind: "power-loss", chooser });
  }

  /** A power failure after which there is what was synced and nothing else. */
  crashKeepingNothing(): MemoryFiles {
    return this.#crash({ kind: "power-loss-keeping-nothing" });
  }

  /** The death of the process: everything is there, and what was not synced can be lost later. */
  crashKeepingEverything(): MemoryFiles {
    return this.#crash({ kind: "process-death" });
  }

  /** What a power failure or the death of the process would leave now; these files live on. */
  afterCrash(crash: Crash): MemoryFiles {
    this.#assertAlive();
    return new MemoryFiles({}, this.#disk.afterCrash(crash));
  }

  /** Space that is taken by no name, and handles that are open. Of nobody: both are zero. */
  get leftOpen(): { namelessBytes: number; openHandles: number } {
    const { namelessBytes, openHandles } = this.#disk;
    return { namelessBytes, openHandles };
  }

  /** What contents take, and how many writes did not fit. */
  get fullness(): { usedBytes: number; refusals: number } {
    const { usedBytes, refusals } = this.#disk;
    return { usedBytes, refusals };
  }

  /** Paths of files, and what each takes in bytes. */
  contents(): Map<string, number> {
    return this.#disk.contents();
  }

  /** Somebody else who uses the disk leaves so much room for files; none if they take more. */
  leaveRoom(capacityBytes: number): void {
    this.#disk.capacityBytes = capacityBytes;
  }

  fail(fault: Fault): void {
    this.#faults.add(fault);
  }

  clearFaults(): void {
    this.#faults.clear();
  }

  /** Lets each operation be failed by whoever decides. */
  decideFaults(decide: MemoryFaults["decide"]): void {
    this.#faults.decide = decide;
  }

  /** Bytes written to files with a name that power loss may take away now. */
  get unsyncedBytes(): number {
    return this.#disk.unsyncedBytes;
  }

  /** How often an operation was asked for since these files came to be. */
  count(operation: FileOperation): number {
    return this.#faults.counts.get(operation) ?? 0;
  }

  /** Every count that is not zero. */
  counts(): Partial<Record<FileOperation, number>> {
    return Object.fromEntries(this.#faults.counts);
  }

  async open(path: string, mode: OpenMode): Promise<MemoryFileHandle> {
    const file = await this.#run("open", path, () => {
      const create = mode.access === "create";
      return create ? this.#disk.createFile(path) : this.#disk.findFile(path);
    });
    this.#disk.handleOpened(file);
    return new MemoryFileHandle({
      path,
      file,
      writable: mode.access !== "read",
      disk: this.#disk,
      faults: this.#faults,
      before: (event) => this.before?.(event),
      after: (event) => this.after?.(event),
      assertAlive: () => this.#assertAlive(),
    });
  }

  readFile(path: string): Promise<Uint8Array> {
    return this.#run("readFile", path, () => contentsOf(this.#disk.findFile(path)));
  }

  list(path: string): Promise<string[]> {
    return this.#run("list", path, () => [...this.#disk.findDirectory(path).entries.keys()].sort());
  }

  stat(path: string): Promise<FileStat> {
    return this.#run("stat", path, () => {
      const inode = this.#disk.find(path);
      if (inode.kind === "directory") return { kind: "directory", sizeBytes: 0, allocatedBytes: 0 };
      return { kind: "file", sizeBytes: inode.sizeBytes, allocatedBytes: inode.allocatedBytes };
    });
  }

  makeDirectory(path: string): Promise<string[]> {
    return this.#run("makeDirectory", path, () => this.#disk.makeDirectory(path));
  }

  link(from: string, to: string): Promise<void> {
    return this.#run("link", to, () => this.#disk.link(from, to));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#run("rename", to, () => this.#disk.rename(from, to));
  }

  remove(path: string): Promise<void> {
    return this.#run("remove", path, () => this.#disk.remove(path));
  }

  async syncDirectory(path: string): Promise<void> {
    this.#assertAlive();
    const point = this.#disk.beginSyncDirectory(path);
    await this.#run("syncDirectory", path, () => this.#disk.endSyncDirectory(point));
  }

  space(path: string): Promise<Space> {
    return this.#run("space", path, () => {
      this.#disk.find(path);
      return { totalBytes: this.#disk.capacityBytes, freeBytes: this.#disk.freeBytes };
    });
  }

  async lock(path: string): Promise<FileLock> {
    const inode = await this.#run("lock", path, () => {
      const file = this.#lockFile(path);
      if (this.#locked.has(file)) {
        throw new KelpieError("busy", `lock ${path}: somebody holds it`);
      }
      this.#locked.add(file);
      return file;
    });
    return {
      release: async () => {
        this.#locked.delete(inode);
      },
    };
  }

  #lockFile(path: string): Inode {
    const parent = this.#disk.findDirectory(posix.dirname(path));
    return parent.entries.get(posix.basename(path)) ?? this.#disk.createFile(path);
  }

  #crash(crash: Crash): MemoryFiles {
    const left = this.afterCrash(crash);
    this.#crashed = true;
    return left;
  }

  async #run<T>(operation: FileOperation, path: string, effect: () => T): Promise<T> {
    this.#assertAlive();
    const event = { operation, path };
    const fault = this.#faults.meet(event);
    const held = this.before?.(event);
    if (held !== undefined) await held;
    this.#assertAlive();
    if (fault !== undefined && fault.isDone !== true) throw faultError(fault, path);
    const result = effect();
    const late = this.after?.(event);
    if (late !== undefined) await late;
    this.#assertAlive();
    if (fault !== undefined) throw faultError(fault, path);
    return result;
  }

  #assertAlive(): void {
    if (this.#crashed) throw new KelpieError("closed", "the machine of these files has crashed");
  }
}

function contentsOf(file: MemoryFile): Uint8Array {
  const bytes = new Uint8Array(file.sizeBytes);
  file.read(bytes, 0);
  return bytes;
}
