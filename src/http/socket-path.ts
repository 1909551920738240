// biome-ignore lint/style/noRestrictedImports: the HTTP library opens its sockets itself, by path.
import { closeSync, constants, existsSync, openSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { KelpieError, messageOf } from "../base/errors.ts";

/** sun_path holds 108 bytes with its terminating zero (unix(7)). */
export const socketPathBytesMax = 107;

/** A name for a socket's path that the system accepts. */
export interface SocketPath {
  /** The path itself if it is short enough, else another name for the same file, good until `close`. */
  readonly path: string;
  close(): void;
}

/**
 * The path of a Unix socket may be 107 bytes long, and a store may lie deeper than that. The way
 * round it is to hold the directory open and to go through it: `/proc/self/fd/<n>/<name>` is short
 * however deep it is. Chosen over a symbolic link in a temporary directory, which leaves litter
 * behind a process that is killed and gives others a link to play with; and over a change of the
 * working directory, which belongs to the whole process. Works where /proc does, that is on Linux;
 * elsewhere a long path fails with "invalid".
 *
 * Needed while binding and while connecting, not afterwards. Other programs than ours have to use
 * a relative path.
 */
export function shortSocketPath(path: string): SocketPath {
  const full = resolve(path);
  if (Buffer.byteLength(full) <= socketPathBytesMax) return { path: full, close() {} };
  const directory = openDirectory(full);
  const short = `/proc/self/fd/${directory}/${basename(full)}`;
  if (!existsSync(dirname(short)) || Buffer.byteLength(short) > socketPathBytesMax) {
    closeSync(directory);
    throw tooLong(full);
  }
  return { path: short, close: () => closeSync(directory) };
}

function openDirectory(path: string): number {
  try {
    return openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
    throw new KelpieError(
      missing ? "not-found" : "io",
      `socket ${path}: its directory cannot be opened: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

function tooLong(path: string): KelpieError {
  return new KelpieError(
    "invalid",
    `socket ${path}: a socket's path has at most ${socketPathBytesMax} bytes`,
    { remedy: "keep the store under a shorter path" },
  );
}
