import type { FileHandle } from "../../host/files.ts";

/**
 * Where immutable things live. Deliberately small: the largest common subset of a POSIX directory and
 * of the S3 servers in use. Keys are relative paths of `[0-9a-z.-]` segments joined by "/".
 */
export interface Backend {
  /**
   * Creates `key` with the concatenation of `chunks`, durably, unless it is there. "unknown" when it
   * cannot tell whether its own put took effect; the caller reads back and compares. Throws
   * ("no-space", "io") only when nothing was created.
   */
  putIfAbsent(
    key: string,
    chunks: readonly Uint8Array[],
    options?: PutOptions,
  ): Promise<PutOutcome>;
  /** The bytes of `key`, or of a range that must lie inside it. Throws "not-found", "io". */
  get(key: string, range?: ByteRange): Promise<Uint8Array>;
  /** To read parts of `key`, many times. Throws "not-found", "io". */
  open(key: string): Promise<ObjectReader>;
  /** Up to 1,000 keys that start with `prefix` and sort after `after`, in order. */
  list(prefix: string, after?: string): Promise<string[]>;
  /** Removes `key`; it is no error if it is not there. After power loss it may be back. */
  delete(key: string): Promise<void>;
  /** The path of the file that holds `key`, for a backend that keeps files on this machine. */
  localPath(key: string): string | undefined;
  /** The store is about to close: whatever gets no answer from outside is given up soon. */
  hasten?(): void;
  close(): Promise<void>;
}

/** What a file that is open for reading does, too. */
export type ObjectReader = Pick<FileHandle, "tryRead" | "read" | "size" | "close">;

export interface PutOptions {
  /**
   * For a backend that keeps files on this machine: gives a file that may be written over the name
   * `path`, and says false if it has none.
   */
  takeSpare?: (path: string) => Promise<boolean>;
}

export type PutOutcome = "created" | "exists" | "unknown";

export interface ByteRange {
  offset: number;
  length: number;
}
