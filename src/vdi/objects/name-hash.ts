/**
 * FNV-1a of 64 bits, of which Sheepdog's vids use the low 24 bits and its attributes the low 32. Low bits
 * of a product depend on low bits only, so 32 bits are all that is computed.
 */
const offsetBasis = 0x84222325;
const prime = 0x1b3;

/** The vid at which a name's run begins. */
export function nameHash(name: string): number {
  return fnvLow32(Buffer.from(name)) & 0xffffff;
}

/** Low 32 bits; `from` is that of what stands before. */
export function fnvLow32(bytes: Uint8Array, from: number = offsetBasis): number {
  let hash = from;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, prime);
  return hash >>> 0;
}
