import type { Completion } from "../base/completion.ts";

/**
 * A disk: `sizeBytes` bytes, addressed by byte offset. The one interface between what stores bytes
 * and what serves them.
 *
 * A device may be asked for any byte range inside its size, in any number of requests at once; the
 * guard (guard.ts) has checked ranges and rights, so devices only assert them. Requests that
 * overlap in time and place may take effect in either order, each as a whole per 512-byte sector.
 *
 * Failures are `KelpieError`s: "io" and "corrupt" (data that cannot be read), "no-space",
 * "read-only", "closed", "unsupported" (a fast zero that would not be fast). A failed request leaves
 * the others, and the device, as they were.
 */
export interface BlockDevice {
  /** In bytes, a multiple of 512. May grow while the device is open. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Fills `target` from `offset`. */
  read(target: Uint8Array, offset: number): Completion<void>;
  /**
   * Writes the concatenation of `chunks` (their lengths add up to the request) at `offset`. The
   * device does not join or copy them needlessly; they must not change until it completes. Completion
   * means: seen by every later read, and safe from the death of this process.
   */
  write(chunks: readonly Uint8Array[], offset: number, options?: WriteOptions): Completion<void>;
  /** Makes a range read as zeros. */
  zero(offset: number, length: number, options?: ZeroOptions): Completion<void>;
  /** Says that the range is not needed any more; what this device discards reads as zeros. */
  trim(offset: number, length: number, options?: WriteOptions): Completion<void>;
  /** Every write, zero and trim completed before this call is safe from power loss when it completes. */
  flush(): Completion<void>;
  /** A hint that the range will be read soon. */
  cache(offset: number, length: number): Completion<void>;
  /**
   * Describes a range from its start: at least one extent, neighbours of equal value joined, no more
   * than `extentsMax`, none reaching past the range. They may end before the range does.
   */
  extents(query: ExtentQuery): Promise<Extent[]>;
  /** Names of points in this disk's history that `{ kind: "changed", since }` accepts. */
  changeBases(): Promise<string[]>;
}

export interface WriteOptions {
  /** Force unit access: completes only when this request's effect is safe from power loss. */
  fua?: boolean;
}

export interface ZeroOptions extends WriteOptions {
  /** Keep the range allocated: it must not be reported as a hole. Default: a hole is welcome. */
  keepAllocated?: boolean;
  /** Fail with "unsupported" rather than be slower than a write of zeros would be. */
  fast?: boolean;
}

export type ExtentKind =
  /** value 0: data; 1: a hole, which reads as zeros; 2: allocated and reads as zeros. */
  | { kind: "allocation" }
  /** value 0: a hole; 1: written in this point; n: written n - 1 points further up. */
  | { kind: "depth" }
  /** value 1: differs from the point named `since`; 0: does not. */
  | { kind: "changed"; since: string };

export type ExtentQuery = ExtentKind & { offset: number; length: number; extentsMax: number };

export interface Extent {
  lengthBytes: number;
  value: number;
}

/** Limits every device keeps to, and servers advertise. */
export const sectorBytes = 512;
export const blockBytes = 4096;
/** 2^53 would be the limit of safe integers; 16 TiB keeps maps and listings sensible. */
export const deviceBytesMax = 16 * 2 ** 40;
