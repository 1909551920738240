import { createRequire } from "node:module";
import { crc32 as crc32OfZlib } from "node:zlib";

type Crc32 = (bytes: Uint8Array, before?: number) => number;

/**
 * CRC-32 as in zlib and PNG (ISO 3309), of `bytes` appended to what has the checksum `before`.
 *
 * Node's own has no carry-less multiplication and takes three times as long as that of @node-rs/crc32,
 * which is a prebuilt binary. Where there is none for this machine, Node's own is used; see
 * docs/decisions/0014.
 */
export function crc32(bytes: Uint8Array, before = 0): number {
  return implementation(bytes, before);
}

/** Looked for on first use: most commands check little. */
let implementation: Crc32 = (bytes, before) => {
  implementation = prebuilt() ?? crc32OfZlib;
  return implementation(bytes, before);
};

function prebuilt(): Crc32 | undefined {
  try {
    const found = createRequire(import.meta.url)("@node-rs/crc32") as { crc32: Crc32 };
    return agrees(found.crc32) ? found.crc32 : undefined;
  } catch {
    // It is an optional dependency.
    return undefined;
  }
}

/** Every block of every store hangs on it: a wrong one would make all of them look damaged. */
function agrees(crc: Crc32): boolean {
  const sample = Uint8Array.from({ length: 4099 }, (_, at) => (at * 7) ^ (at >> 8));
  const [begin, end] = [sample.subarray(0, 1027), sample.subarray(1027)];
  return crc(end, crc(begin, 0)) === crc32OfZlib(sample);
}
