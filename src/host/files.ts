import type { Completion } from "../base/completion.ts";

/**
 * A POSIX directory tree, as far as Kelpie needs it. Paths are ordinary path strings.
 *
 * Errors are `KelpieError`: "not-found" (ENOENT), "exists" (EEXIST), "no-space" (ENOSPC, EDQUOT),
 * "io" for everything else; the host's own error is the `cause`.
 *
 * Durability is POSIX's, no more: what was written survives the death of the process at once; it
 * survives power loss only after `sync` of the file, and a new, renamed or removed name only after
 * `syncDirectory` of the directory that holds it.
 */
export interface Files {
  open(path: string, mode: OpenMode): Promise<FileHandle>;
  /** The whole file. */
  readFile(path: string): Promise<Uint8Array>;
  /** Names in the directory, without "." and "..", sorted by code unit. */
  list(path: string): Promise<string[]>;
  stat(path: string): Promise<FileStat>;
  /**
   * Like `mkdir -p`: succeeds when it is there already. Says which directories it made, top first. With
   * `permissions` for those; 0o777 less the umask by default.
   */
  makeDirectory(path: string, permissions?: number): Promise<string[]>;
  /** Creates name `to` for the file `from`; fails with "exists" if `to` is there. Atomic. */
  link(from: string, to: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Removes a file, or an empty directory. */
  remove(path: string): Promise<void>;
  syncDirectory(path: string): Promise<void>;
  space(path: string): Promise<Space>;
  /**
   * Takes an exclusive lock that no other process, nor this one, can take until it is released or
   * this process dies, however it dies. Fails with "busy" if it is taken.
   */
  lock(path: string): Promise<FileLock>;
}

export interface OpenMode {
  /** "read": must exist. "write": must exist, read and write. "create": must not exist, read and write. */
  access: "read" | "write" | "create";
  /** Permission bits of a file that is created; 0o666 less the umask by default. */
  permissions?: number;
}

export interface FileHandle {
  readonly path: string;
  /**
   * Fills `target` from `position` if that takes no waiting. Else it says false, and what is in `target`
   * means nothing.
   */
  tryRead(target: Uint8Array, position: number): boolean;
  /** Reads until `target` is full or the file ends; returns the number of bytes read. */
  read(target: Uint8Array, position: number): Promise<number>;
  /**
   * Writes all of `chunks`, one after the other, from `position`. May complete at once. When it fails
   * any part may have been written. The chunks must not change until it completes.
   */
  write(chunks: readonly Uint8Array[], position: number): Completion<void>;
  /** fdatasync: the data, and the size if it changed. */
  sync(): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

export interface FileStat {
  kind: "file" | "directory" | "other";
  sizeBytes: number;
  /** What it takes on the disk, which is less than its size if it has holes. */
  allocatedBytes: number;
}

export interface Space {
  totalBytes: number;
  freeBytes: number;
}

export interface FileLock {
  release(): Promise<void>;
}
