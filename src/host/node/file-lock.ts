import { dirname, resolve } from "node:path";
// biome-ignore lint/correctness/noUnresolvedImports: it is part of Node 24, which Biome does not know.
import { DatabaseSync } from "node:sqlite";
import { KelpieError } from "../../base/errors.ts";
import type { FileLock, FileStat } from "../files.ts";
import { fileError } from "./file-errors.ts";

/**
 * A lock of the kernel, for which Node has no call of its own: SQLite takes fcntl locks on the file
 * for an exclusive transaction, and the kernel drops them when the process dies, however it dies.
 * The file stays empty. SQLite's own table of locked inodes, one per process, makes it exclusive
 * within the process.
 *
 * fcntl locks have a trap: closing any descriptor of the file drops this process's locks on it.
 * Nothing else may open a lock file, not even to read it.
 */
export class NodeFileLocks {
  /** Keeps a held lock's database from being garbage collected, which would release it. */
  readonly #held = new Set<DatabaseSync>();
  readonly #stat: (path: string) => Promise<FileStat>;

  constructor(stat: (path: string) => Promise<FileStat>) {
    this.#stat = stat;
  }

  async take(path: string): Promise<FileLock> {
    // SQLite says "unable to open" for everything; a missing directory deserves its name.
    await this.#stat(dirname(resolve(path)));
    const database = openExclusively(resolve(path));
    this.#held.add(database);
    return {
      release: async () => {
        if (!this.#held.delete(database)) return;
        database.close();
      },
    };
  }
}

function openExclusively(path: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: 0 });
    // There is nothing to roll back; without this a journal file would appear beside the lock.
    database.exec("PRAGMA journal_mode = MEMORY");
    database.exec("BEGIN EXCLUSIVE");
    return database;
  } catch (error) {
    database?.close();
    if (isBusy(error))
      throw new KelpieError("busy", `lock ${path}: somebody holds it`, { cause: error });
    throw fileError("lock", path, error);
  }
}

/**
 * SQLITE_BUSY is 5; the low byte of an extended result code is the primary one
 * (sqlite.org/rescode.html).
 */
function isBusy(error: unknown): boolean {
  if (!(error instanceof Error) || !("errcode" in error)) return false;
  return typeof error.errcode === "number" && (error.errcode & 0xff) === 5;
}
