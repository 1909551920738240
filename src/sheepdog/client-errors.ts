import { type ErrorCode, KelpieError } from "../base/errors.ts";
import { describeResult, result } from "./results.ts";

/** A server answered, and the answer was not success. */
export class RefusedError extends KelpieError {
  /** One of `result`. */
  readonly result: number;

  constructor(what: string, code: number) {
    super(codeOf(code), `${what}: ${describeResult(code)}`);
    this.name = "RefusedError";
    this.result = code;
  }
}

/** The connection went while the answer was waited for: the request was executed, or not. */
export class LostAnswerError extends KelpieError {
  constructor(cause: unknown) {
    super("io", "the connection to the Sheepdog server was lost", { cause });
    this.name = "LostAnswerError";
  }
}

export function isRefused(error: unknown, ...results: number[]): error is RefusedError {
  return error instanceof RefusedError && results.includes(error.result);
}

function codeOf(code: number): ErrorCode {
  switch (code) {
    case result.noVdi:
    case result.noTag:
    case result.noBaseVdi:
      return "not-found";
    case result.vdiExists:
      return "exists";
    case result.vdiLocked:
      return "busy";
    case result.readOnly:
      return "read-only";
    case result.noSpace:
    case result.fullVdi:
      return "no-space";
    // The answer to opcodes that a server does not know.
    case result.invalidParameters:
    case result.noSupport:
    case result.versionMismatch:
      return "unsupported";
    default:
      return "io";
  }
}
