import * as fs from "node:fs";
import { dirname, resolve } from "node:path";
import { promisify } from "node:util";
import type { FileStat, Files, OpenMode } from "../files.ts";
import { errnoOf, fileError } from "./file-errors.ts";
import { NodeFileHandle } from "./file-handle.ts";
import { NodeFileLocks } from "./file-lock.ts";

/**
 * The files of this machine. What changes names and neither reads nor frees anything is done at once, on the
 * calling thread: beside a guest that keeps both cores busy each hop to the thread pool and back takes
 * milliseconds, and a record of the catalog had eight of them.
 */
export function createNodeFiles(): Files {
  const locks = new NodeFileLocks(stat);
  return {
    open,
    readFile: async (path) => {
      const bytes = await named("read", path, () => fs.promises.readFile(path));
      // Not a Buffer: the two disagree on what slice does.
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    },
    list: async (path) => (await named("list", path, () => fs.promises.readdir(path))).sort(),
    stat,
    makeDirectory: (path, permissions) => makeDirectory(resolve(path), permissions),
    link: (from, to) => named(`link ${from} to`, to, async () => fs.linkSync(from, to)),
    rename: (from, to) => named(`rename ${from} to`, to, async () => fs.renameSync(from, to)),
    remove: (path) => named("remove", path, () => remove(path)),
    syncDirectory: (path) => named("sync directory", path, () => syncDirectory(path)),
    space: async (path) => {
      const { bsize, blocks, bavail } = await named("statfs", path, () => fs.promises.statfs(path));
      return { totalBytes: bsize * blocks, freeBytes: bsize * bavail };
    },
    lock: (path) => locks.take(path),
  };
}

const flags: Record<OpenMode["access"], number> = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
};

const openFile = promisify(fs.open);
const syncFile = promisify(fs.fsync);

async function open(path: string, mode: OpenMode): Promise<NodeFileHandle> {
  const permissions = mode.permissions ?? 0o666;
  const operation = mode.access === "create" ? "create" : "open";
  const flag = flags[mode.access];
  const fd = await named(operation, path, async () =>
    mode.access === "create"
      ? fs.openSync(path, flag, permissions)
      : await openFile(path, flag, permissions),
  );
  return new NodeFileHandle(path, fd);
}

/** Synchronous: what was just listed is in memory, and the call takes a tenth of a thread hop. */
async function stat(path: string): Promise<FileStat> {
  let found: fs.Stats;
  try {
    found = fs.statSync(path);
  } catch (error) {
    throw fileError("stat", path, error);
  }
  return {
    kind: found.isFile() ? "file" : found.isDirectory() ? "directory" : "other",
    sizeBytes: found.size,
    // st_blocks counts units of 512 bytes on Linux, whatever the block size of the file system.
    allocatedBytes: found.blocks * 512,
  };
}

/** One level at a time: mkdir's own recursion names only the first directory it made. */
async function makeDirectory(path: string, permissions = 0o777): Promise<string[]> {
  try {
    await fs.promises.mkdir(path, permissions);
    return [path];
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "EEXIST" && (await stat(path)).kind === "directory") return [];
    if (errno !== "ENOENT" || dirname(path) === path) {
      throw fileError("make directory", path, error);
    }
  }
  const made = await makeDirectory(dirname(path), permissions);
  return [...made, ...(await makeDirectory(path, permissions))];
}

async function remove(path: string): Promise<void> {
  try {
    await fs.promises.unlink(path);
  } catch (error) {
    // Linux says EISDIR for a directory, POSIX EPERM.
    const errno = errnoOf(error);
    if (errno !== "EISDIR" && errno !== "EPERM") throw error;
    await fs.promises.rmdir(path);
  }
}

async function syncDirectory(path: string): Promise<void> {
  const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  try {
    await syncFile(fd);
  } finally {
    fs.closeSync(fd);
  }
}

async function named<T>(operation: string, path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw fileError(operation, path, error);
  }
}
