import { posix } from "node:path";
import { type ErrorCode, KelpieError } from "../src/base/errors.ts";
import { MemoryFile, pageBytes } from "./memory-file.ts";
import type { Chooser } from "./random.ts";

export type Inode = MemoryFile | MemoryDirectory;

/** Names, twice: as the running process sees them, and as they are on the disk. */
export class MemoryDirectory {
  readonly kind = "directory";
  readonly entries = new Map<string, Inode>();
  readonly durableEntries = new Map<string, Inode>();
}

/** One name that gets a new meaning, or none. */
interface Edit {
  directory: MemoryDirectory;
  name: string;
  target: Inode | undefined;
}

/**
 * Something on names that is not durable yet, which a crash keeps as a whole or not at all. A rename
 * within a directory is two edits, the new name first. One between two directories is two changes:
 * POSIX does not tie what is synced in one directory to what is synced in another, so after power
 * loss the file may stand under both names, either, or none.
 */
interface Change {
  edits: Edit[];
}

/** How a machine stopped. */
export type Crash =
  /** Power went; the chooser says what of the unsynced data and names made it to the disk. */
  | { kind: "power-loss"; chooser: Chooser }
  /** Power went, and nothing that was not synced made it. */
  | { kind: "power-loss-keeping-nothing" }
  /** Only the process died. What was not synced is there, and can still be lost. */
  | { kind: "process-death" };

/**
 * A tree of files on a disk of a given size. Knows names and space, not handles, faults or locks.
 */
export class MemoryDisk {
  /** May be changed: whoever shares the disk takes room, or makes some. */
  capacityBytes: number;
  /** Writes that did not fit, so far. */
  refusals = 0;
  #root = new MemoryDirectory();
  #changes: Change[] = [];
  #usedBytes = 0;

  constructor(capacityBytes: number) {
    this.capacityBytes = capacityBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get freeBytes(): number {
    return Math.max(0, this.capacityBytes - this.#usedBytes);
  }

  find(path: string): Inode {
    let inode: Inode = this.#root;
    for (const name of namesOf(path)) {
      if (inode.kind !== "directory") throw fileError("io", path, "not a directory");
      const next = inode.entries.get(name);
      if (next === undefined) throw fileError("not-found", path, "no such file or directory");
      inode = next;
    }
    return inode;
  }

  findFile(path: string): MemoryFile {
    const inode = this.find(path);
    if (inode.kind !== "file") throw fileError("io", path, "is a directory");
    return inode;
  }

  findDirectory(path: string): MemoryDirectory {
    const inode = this.find(path);
    if (inode.kind !== "directory") throw fileError("io", path, "not a directory");
    return inode;
  }

  createFile(path: string): MemoryFile {
    const file = new MemoryFile();
    this.#add(path, file);
    return file;
  }

  makeDirectory(path: string): string[] {
    const made: string[] = [];
    let at = "/";
    for (const name of namesOf(path)) {
      const parent = this.findDirectory(at);
      at = posix.join(at, name);
      const present = parent.entries.get(name);
      if (present?.kind === "directory") continue;
      if (present !== undefined) throw fileError("exists", at, "exists and is not a directory");
      this.#add(at, new MemoryDirectory());
      made.push(at);
    }
    return made;
  }

  link(from: string, to: string): void {
    this.#add(to, this.findFile(from));
  }

  rename(from: string, to: string): void {
    const inode = this.find(from);
    const source = this.#place(from);
    const destination = this.#place(to);
    const replaced = destination.directory.entries.get(destination.name);
    if (replaced === inode) return;
    if (replaced !== undefined && replaced.kind !== inode.kind) {
      throw fileError("io", to, "is of another kind");
    }
    if (replaced?.kind === "directory" && replaced.entries.size > 0) {
      throw fileError("io", to, "directory not empty");
    }
    const comes = { ...destination, target: inode };
    const goes = { ...source, target: undefined };
    if (destination.directory === source.directory) this.#apply({ edits: [comes, goes] });
    else for (const edit of [comes, goes]) this.#apply({ edits: [edit] });
  }

  remove(path: string): void {
    const inode = this.find(path);
    if (inode.kind === "directory" && inode.entries.size > 0) {
      throw fileError("io", path, "directory not empty");
    }
    this.#apply({ edits: [{ ...this.#place(path), target: undefined }] });
  }

  /** What a sync of the directory that starts now covers. */
  beginSyncDirectory(path: string): { directory: MemoryDirectory; changes: Change[] } {
    const directory = this.findDirectory(path);
    return { directory, changes: this.#changes.filter((change) => touches(change, directory)) };
  }

  /** DURABLE: the names in the directory as they were at `beginSyncDirectory`. */
  endSyncDirectory(point: { directory: MemoryDirectory; changes: Change[] }): void {
    for (const change of point.changes) {
      // Empty if another sync has made it durable in the meantime.
      for (const edit of change.edits) applyEdit(edit.directory.durableEntries, edit);
      change.edits = [];
    }
    this.#changes = this.#changes.filter((change) => change.edits.length > 0);
  }

  /** Writes as much as fits, and fails with "no-space" if that is not all. */
  write(file: MemoryFile, bytes: Uint8Array, position: number): void {
    const before = file.allocatedBytes;
    const fitting = this.#fittingLength(file, bytes.byteLength, position);
    file.write(bytes.subarray(0, fitting), position);
    this.#usedBytes += file.allocatedBytes - before;
    if (fitting < bytes.byteLength) {
      this.refusals++;
      throw new KelpieError("no-space", "write: no space left on the memory disk");
    }
  }

  truncate(file: MemoryFile, sizeBytes: number): void {
    const before = file.allocatedBytes;
    file.truncate(sizeBytes);
    this.#usedBytes += file.allocatedBytes - before;
  }

  handleOpened(file: MemoryFile): void {
    file.openHandles += 1;
  }

  handleClosed(file: MemoryFile): void {
    file.openHandles -= 1;
    this.#freeIfUnused(file);
  }

  /** The disk that would be found after a crash now. */
  afterCrash(crash: Crash): MemoryDisk {
    const left = new MemoryDisk(this.capacityBytes);
    const isProcessDeath = crash.kind === "process-death";
    const kept = isProcessDeath ? [] : this.#changes.filter(() => isKept(crash));
    const survivors = new Survivors(crash, kept);
    left.#root = survivors.directory(this.#root);
    if (isProcessDeath) left.#changes = survivors.changes(this.#changes);
    left.#usedBytes = survivors.usedBytes();
    return left;
  }

  /** What files take that have no name any more and are still open. */
  get namelessBytes(): number {
    let namedBytes = 0;
    for (const file of this.#files()) namedBytes += file.allocatedBytes;
    return this.#usedBytes - namedBytes;
  }

  /** Of files that have a name. */
  get unsyncedBytes(): number {
    let bytes = 0;
    for (const file of this.#files()) bytes += file.unsyncedBytes;
    return bytes;
  }

  /** Paths of files, and what each takes. */
  contents(): Map<string, number> {
    const found = new Map<string, number>();
    const directories: [string, MemoryDirectory][] = [["/", this.#root]];
    for (const [path, { entries }] of directories) {
      for (const [name, inode] of entries) {
        const below = posix.join(path, name);
        if (inode.kind === "file") found.set(below, inode.allocatedBytes);
        else directories.push([below, inode]);
      }
    }
    return found;
  }

  /** Handles that nobody has closed, of files that have a name. */
  get openHandles(): number {
    let count = 0;
    for (const file of this.#files()) count += file.openHandles;
    return count;
  }

  /** Every file that has a name, once. */
  #files(): Set<MemoryFile> {
    const files = new Set<MemoryFile>();
    const directories = [this.#root];
    for (const { entries } of directories) {
      for (const inode of entries.values()) {
        if (inode.kind === "file") files.add(inode);
        else directories.push(inode);
      }
    }
    return files;
  }

  #add(path: string, inode: Inode): void {
    const place = this.#place(path);
    if (place.directory.entries.has(place.name)) throw fileError("exists", path, "exists already");
    this.#apply({ edits: [{ ...place, target: inode }] });
  }

  #apply(change: Change): void {
    for (const edit of change.edits) {
      const replaced = edit.directory.entries.get(edit.name);
      applyEdit(edit.directory.entries, edit);
      if (edit.target?.kind === "file") edit.target.links += 1;
      if (replaced?.kind === "file") {
        replaced.links -= 1;
        this.#freeIfUnused(replaced);
      }
    }
    this.#changes.push(change);
  }

  #place(path: string): { directory: MemoryDirectory; name: string } {
    const name = posix.basename(absolute(path));
    if (name === "") throw fileError("io", path, "this is the root");
    return { directory: this.findDirectory(posix.dirname(absolute(path))), name };
  }

  #fittingLength(file: MemoryFile, length: number, position: number): number {
    let pagesFree = Math.floor(this.freeBytes / pageBytes);
    let fitting = 0;
    while (fitting < length) {
      const step = Math.min(pageBytes - ((position + fitting) % pageBytes), length - fitting);
      pagesFree -= file.pagesMissing(position + fitting, step);
      if (pagesFree < 0) return fitting;
      fitting += step;
    }
    return fitting;
  }

  #freeIfUnused(file: MemoryFile): void {
    if (file.links > 0 || file.openHandles > 0) return;
    this.#usedBytes -= file.allocatedBytes;
  }
}

/** Copies of what a crash leaves. A file with two names is one file afterwards, too. */
class Survivors {
  readonly #crash: Crash;
  /** Changes that were not durable and that power loss has kept, by directory. */
  readonly #kept = new Map<MemoryDirectory, Edit[]>();
  readonly #copies = new Map<Inode, Inode>();

  constructor(crash: Crash, kept: readonly Change[]) {
    this.#crash = crash;
    for (const edit of kept.flatMap(({ edits }) => edits)) {
      const list = this.#kept.get(edit.directory);
      if (list === undefined) this.#kept.set(edit.directory, [edit]);
      else list.push(edit);
    }
  }

  directory(directory: MemoryDirectory): MemoryDirectory {
    const present = this.#copies.get(directory);
    if (present?.kind === "directory") return present;
    const copy = new MemoryDirectory();
    this.#copies.set(directory, copy);
    const isProcessDeath = this.#crash.kind === "process-death";
    const entries = isProcessDeath ? directory.entries : this.#settled(directory);
    const durableEntries = isProcessDeath ? directory.durableEntries : entries;
    for (const [name, inode] of entries) {
      const survivor = this.#inode(inode);
      if (survivor.kind === "file") survivor.links += 1;
      copy.entries.set(name, survivor);
    }
    for (const [name, inode] of durableEntries) copy.durableEntries.set(name, this.#inode(inode));
    return copy;
  }

  #settled(directory: MemoryDirectory): ReadonlyMap<string, Inode> {
    const kept = this.#kept.get(directory);
    if (kept === undefined) return directory.durableEntries;
    const entries = new Map(directory.durableEntries);
    for (const edit of kept) applyEdit(entries, edit);
    return entries;
  }

  changes(changes: readonly Change[]): Change[] {
    return changes.map((change) => ({
      edits: change.edits.map(({ directory, name, target }) => ({
        directory: this.directory(directory),
        name,
        target: target && this.#inode(target),
      })),
    }));
  }

  /** Space of the files that have a name; the others went with the handles that held them. */
  usedBytes(): number {
    let usedBytes = 0;
    for (const inode of this.#copies.values()) {
      if (inode.kind === "file" && inode.links > 0) usedBytes += inode.allocatedBytes;
    }
    return usedBytes;
  }

  #inode(inode: Inode): Inode {
    if (inode.kind === "directory") return this.directory(inode);
    const present = this.#copies.get(inode);
    if (present !== undefined) return present;
    const copy = this.#file(inode);
    this.#copies.set(inode, copy);
    return copy;
  }

  #file(file: MemoryFile): MemoryFile {
    switch (this.#crash.kind) {
      case "process-death":
        return file.afterProcessDeath();
      case "power-loss":
        return file.afterPowerLoss(this.#crash.chooser);
      case "power-loss-keeping-nothing":
        return file.afterPowerLoss(undefined);
    }
  }
}

function isKept(crash: Crash): boolean {
  return crash.kind === "power-loss" && crash.chooser.below(2) === 1;
}

function applyEdit(entries: Map<string, Inode>, edit: Edit): void {
  if (edit.target === undefined) entries.delete(edit.name);
  else entries.set(edit.name, edit.target);
}

/** All edits of a change are in one directory. */
function touches(change: Change, directory: MemoryDirectory): boolean {
  return change.edits[0]?.directory === directory;
}

function absolute(path: string): string {
  return posix.resolve("/", path);
}

function namesOf(path: string): string[] {
  return absolute(path)
    .split("/")
    .filter((name) => name !== "");
}

export function fileError(code: ErrorCode, path: string, reason: string): KelpieError {
  return new KelpieError(code, `${path}: ${reason}`);
}
