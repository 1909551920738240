import { type ErrorCode, KelpieError, messageOf } from "../../base/errors.ts";

/** Turns an error of the system into a KelpieError that names the operation and the path. */
export function fileError(operation: string, path: string, cause: unknown): KelpieError {
  const errno = errnoOf(cause);
  const code = (errno !== undefined && codes[errno]) || "io";
  const reason = (errno !== undefined && reasons[errno]) || messageOf(cause);
  return new KelpieError(code, `${operation} ${path}: ${reason}`, { cause });
}

/** "ENOENT" and its like, if the error is one of the system. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

const codes: Record<string, ErrorCode | undefined> = {
  ENOENT: "not-found",
  EEXIST: "exists",
  ENOSPC: "no-space",
  EDQUOT: "no-space",
};

const reasons: Record<string, string | undefined> = {
  ENOENT: "no such file or directory",
  EEXIST: "it exists already",
  ENOSPC: "no space left on the device",
  EDQUOT: "the disk quota is used up",
  EACCES: "permission denied",
  EROFS: "the file system is read-only",
  EMFILE: "too many open files in this process",
  ENFILE: "too many open files on this machine",
  EIO: "input/output error",
};
