import { readU32, writeU32 } from "../base/little-endian.ts";

/*
 * A point in time: 64 bits, little-endian
 *   0  4  nanoseconds (the original has microseconds x 1000)
 *   4  4  seconds since 1970
 */
export const timeBytes = 8;

/** Milliseconds since 1970 with a fraction; 0 is "never". */
export function decodeTime(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at + 4) * 1000 + readU32(bytes, at) / 1e6;
}

export function encodeTime(bytes: Uint8Array, at: number, timeMs: number): void {
  const microseconds = Math.round(timeMs * 1000);
  writeU32(bytes, at, (microseconds % 1e6) * 1000);
  writeU32(bytes, at + 4, Math.floor(microseconds / 1e6));
}
