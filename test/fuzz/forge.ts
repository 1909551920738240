import { crc32 } from "node:zlib";
import type { SeededRandom } from "../../sim/random.ts";
import { mutate } from "./mutate.ts";

/** Makes the checksum of a structure right again, where it has room for one. */
export type Mend = (bytes: Buffer) => void;

/** A copy with changes that its checksum does not give away, as another program may have written it. */
export function forge(bytes: Uint8Array, random: SeededRandom, mend: Mend): Buffer {
  const forged = mutate(bytes, random);
  mend(forged);
  return forged;
}

/** CRC-32 of all before the last 4 bytes of the unit. */
export const mendUnit: Mend = (bytes) => {
  if (bytes.length >= 512) bytes.writeUInt32LE(crc32(bytes.subarray(0, 508)), 508);
};

export function mendBatch(seed: number): Mend {
  return (bytes) => {
    if (bytes.length < 64) return;
    bytes.writeUInt32LE(0, 60);
    bytes.writeUInt32LE(crc32(bytes, seed), 60);
  };
}

/** The length says how much of what follows the checksum covers; all of it, if it says too much. */
export const mendFrame: Mend = (bytes) => {
  if (bytes.length < 16) return;
  const rest = bytes.length - 16;
  if (bytes.readUInt32LE(8) > rest) bytes.writeUInt32LE(rest, 8);
  const payload = bytes.subarray(16, 16 + bytes.readUInt32LE(8));
  bytes.writeUInt32LE(crc32(payload, crc32(bytes.subarray(0, 12))), 12);
};

export const mendNode: Mend = (bytes) => {
  if (bytes.length < 24) return;
  const rest = bytes.length - 24;
  if (bytes.readUInt32LE(4) > rest) bytes.writeUInt32LE(rest, 4);
  const payload = bytes.subarray(24, 24 + bytes.readUInt32LE(4));
  bytes.writeUInt32LE(crc32(payload, crc32(bytes.subarray(0, 16))), 16);
};
