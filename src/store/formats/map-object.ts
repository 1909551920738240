/**
 * A map object as written: nodes (map-node.ts), each at a multiple of 8 bytes. The first one begins
 * at 8, so that no reference is 0; the first 8 bytes are "KLPM" and u32 1, the version.
 */
export const mapObjectStart = 8;

export function mapObjectHeader(): Buffer {
  const header = Buffer.alloc(mapObjectStart);
  header.write("KLPM", 0, "latin1");
  header.writeUInt32LE(1, 4);
  return header;
}
