import { join } from "node:path";

/** One directory for each format version, and in it a store as a kill left it, and one that was stopped. */
export const storesDirectory = join(import.meta.dirname, "stores");

/** Blocks of 4,096 bytes that are made of one number. */
export function filled(byte: number, blocks: number): Buffer {
  return Buffer.alloc(blocks * 4096, byte);
}
