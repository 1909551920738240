/**
 * What the world did to us, as opposed to what we got wrong (that is `assert`).
 * A code exists only if some caller acts on it: NBD turns it into an errno, the command line into
 * an exit code.
 */
export type ErrorCode =
  | "invalid" // the request itself is wrong; repeating it cannot help
  | "not-found" // a disk, snapshot, file or store that was named is not there
  | "exists" // the name is taken
  | "busy" // somebody is using it: attached, locked, already running
  | "denied" // whoever asks may not
  | "read-only" // a write to something that is not writable
  | "no-space" // the store is full, or the write would touch its reserve
  | "io" // the host failed, or the data on it is damaged
  | "corrupt" // bytes that came back are not what was written
  | "unsupported" // a newer format, or an operation this part does not do
  | "closed"; // the component is shut down or shutting down

export interface KelpieErrorOptions {
  /** What the user can do about it: a sentence, or a command as typed. */
  remedy?: string;
  cause?: unknown;
}

export class KelpieError extends Error {
  readonly code: ErrorCode;
  readonly remedy: string | undefined;

  constructor(code: ErrorCode, message: string, options: KelpieErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "KelpieError";
    this.code = code;
    this.remedy = options.remedy;
  }
}

export function isKelpieError(value: unknown, code?: ErrorCode): value is KelpieError {
  return value instanceof KelpieError && (code === undefined || value.code === code);
}

/** The message of anything that was thrown. */
export function messageOf(value: unknown): string {
  return value instanceof Error ? value.message : String(value);
}
