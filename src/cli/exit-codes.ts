import { type ErrorCode, isKelpieError } from "../base/errors.ts";

/** Exit codes are those of `dog`, so that scripts may move over. A failure is never 0. */
export const exitCode = {
  success: 0,
  failure: 1,
  /** The system, or the data, failed. */
  systemFailure: 2,
  exists: 3,
  full: 4,
  missing: 5,
  /** The command line was wrong. */
  usage: 64,
  /** 128 + SIGINT, as shells report it. */
  interrupted: 130,
} as const;

export function exitCodeOf(error: unknown): number {
  return isKelpieError(error) ? codes[error.code] : exitCode.systemFailure;
}

const codes: Record<ErrorCode, number> = {
  invalid: exitCode.usage,
  "not-found": exitCode.missing,
  exists: exitCode.exists,
  busy: exitCode.failure,
  denied: exitCode.failure,
  "read-only": exitCode.failure,
  "no-space": exitCode.full,
  io: exitCode.systemFailure,
  corrupt: exitCode.systemFailure,
  unsupported: exitCode.failure,
  closed: exitCode.systemFailure,
};
