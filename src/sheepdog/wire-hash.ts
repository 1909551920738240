import { encodeUtf8 } from "../base/bytes.ts";
import { writeU32 } from "../base/little-endian.ts";

/*
 * Sheepdog's hashes are FNV-1a with 64 bits: for each byte, exclusive or, then times 0x100000001b3.
 * A hash is two words, so that no number is larger than 2^53 and nothing is allocated per byte.
 */
export interface Hash64 {
  high: number;
  low: number;
}

export const fnvStart: Hash64 = { high: 0xcbf29ce4, low: 0x84222325 };

/** The hash of `bytes`, continued from `from`. */
export function fnv1a(bytes: Uint8Array, from: Hash64 = fnvStart): Hash64 {
  let { high, low } = from;
  for (const byte of bytes) {
    low = (low ^ byte) >>> 0;
    // The prime is 2^40 + 0x1b3.
    const product = low * 0x1b3;
    high = (high * 0x1b3 + Math.floor(product / 2 ** 32) + low * 2 ** 8) % 2 ** 32;
    low = product % 2 ** 32;
  }
  return { high, low };
}

/** Where the search for a name's vids begins: 24 bits. 0 is possible, and stands for 1. */
export function vdiNameHash(name: string | Uint8Array): number {
  return fnv1a(typeof name === "string" ? encodeUtf8(name) : name).low & 0xffffff;
}

/** Where something stands on the ring of nodes. */
export function placementHash(bytes: Uint8Array): Hash64 {
  return nextPlacementHash(fnv1a(bytes));
}

/** Of a node's next virtual node. */
export function nextPlacementHash(hash: Hash64): Hash64 {
  const bytes = new Uint8Array(8);
  writeU32(bytes, 0, hash.low);
  writeU32(bytes, 4, hash.high);
  return fnv1a(bytes, hash);
}

export function formatHash64({ high, low }: Hash64): string {
  return high.toString(16).padStart(8, "0") + low.toString(16).padStart(8, "0");
}
