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
 * One operation on names that is not durable yet. A rename is two edits that a crash keeps
 * together, the new name first; everything else is one.
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
  readonly capacityBytes: number;
  #root = new MemoryDirectory();
  #changes: Change[] = [];
  #usedBytes = 0;

  constructor(capacityBytes: number) {
    this.capacityBytes = capacityBytes;
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
    this.#apply({
      edits: [
        { ...destination, target: inode },
        { ...source, target: undefined },
      ],
    });
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
      // Another sync may have made it durable in the meantime, or the half of it that was here.
      if (touches(change, point.directory)) this.#makeDurable(change, point.directory);
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

  /** The disk that is found after a crash. This one must not be used any more. */
  afterCrash(crash: Crash): MemoryDisk {
    const left = new MemoryDisk(this.capacityBytes);
    const survivors = new Survivors(crash);
    if (crash.kind === "process-death") {
      left.#root = survivors.directory(this.#root);
      left.#changes = survivors.changes(this.#changes);
    } else {
      const kept = this.#changes.filter(() => isKept(crash));
      for (const change of kept) for (const edit of change.edits) applyTo("durableEntries", edit);
      left.#root = survivors.directory(this.#root);
    }
    left.#usedBytes = survivors.usedBytes();
    return left;
  }

  #add(path: string, inode: Inode): void {
    const place = this.#place(path);
    if (place.directory.entries.has(place.name)) throw fileError("exists", path, "exists already");
    this.#apply({ edits: [{ ...place, target: inode }] });
  }

  #apply(change: Change): void {
    for (const edit of change.edits) {
      const replaced = edit.directory.entries.get(edit.name);
      applyTo("entries", edit);
      if (edit.target?.kind === "file") edit.target.links += 1;
      if (replaced?.kind === "file") {
        replaced.links -= 1;
        this.#freeIfUnused(replaced);
      }
    }
    this.#changes.push(change);
  }

  /**
   * POSIX promises the names in the directory that was synced. Of a rename between two, syncing the
   * new name's directory leaves the old name in doubt; syncing the old one's must not lose the
   * file.
   */
  #makeDurable(change: Change, directory: MemoryDirectory): void {
    const [first, second] = change.edits;
    if (second !== undefined && first !== undefined && second.directory === directory) {
      if (first.directory !== directory) this.#makeEarlierDurable(change, first.directory);
      applyTo("durableEntries", first);
      applyTo("durableEntries", second);
      change.edits = [];
      return;
    }
    if (first !== undefined) applyTo("durableEntries", first);
    change.edits = change.edits.slice(1);
  }

  /** Keeps the order of the changes in a directory, of which one is about to become durable. */
  #makeEarlierDurable(change: Change, directory: MemoryDirectory): void {
    for (const earlier of this.#changes) {
      if (earlier === change) return;
      if (touches(earlier, directory)) this.#makeDurable(earlier, directory);
    }
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
  readonly #copies = new Map<Inode, Inode>();

  constructor(crash: Crash) {
    this.#crash = crash;
  }

  directory(directory: MemoryDirectory): MemoryDirectory {
    const present = this.#copies.get(directory);
    if (present?.kind === "directory") return present;
    const copy = new MemoryDirectory();
    this.#copies.set(directory, copy);
    const processDeath = this.#crash.kind === "process-death";
    const entries = processDeath ? directory.entries : directory.durableEntries;
    for (const [name, inode] of entries) {
      const survivor = this.#inode(inode);
      if (survivor.kind === "file") survivor.links += 1;
      copy.entries.set(name, survivor);
    }
    for (const [name, inode] of directory.durableEntries) {
      copy.durableEntries.set(name, this.#inode(inode));
    }
    return copy;
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

function applyTo(which: "entries" | "durableEntries", edit: Edit): void {
  const entries = edit.directory[which];
  if (edit.target === undefined) entries.delete(edit.name);
  else entries.set(edit.name, edit.target);
}

function touches(change: Change, directory: MemoryDirectory): boolean {
  return change.edits.some((edit) => edit.directory === directory);
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
