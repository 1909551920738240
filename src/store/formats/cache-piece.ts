import { crc32 } from "../../base/crc32.ts";

/**
 * A piece of an object of an object store, in a file of this machine's cache. It counts only with its
 * trailer: files of a cache are not synced, and after power loss may hold anything.
 *
 *   offset  size  name        meaning
 *   0       n     data        the bytes of the object from piece × piece size on
 *   n       4     magic       "KPC1"
 *   n + 4   4     crc         CRC-32 of the file's name, total and data
 *   n + 8   8     total       size of the whole object
 */
export const cachePieceTrailerBytes = 16;

const magic = 0x3143504b;

export function encodeCachePiece(name: string, data: Uint8Array, totalBytes: number): Uint8Array[] {
  const trailer = Buffer.alloc(cachePieceTrailerBytes);
  trailer.writeUInt32LE(magic, 0);
  trailer.writeUIntLE(totalBytes, 8, 6);
  trailer.writeUInt32LE(checksum(name, trailer, data), 4);
  return [data, trailer];
}

/** Undefined for what is not the whole piece of that name. */
export function decodeCachePiece(
  name: string,
  file: Uint8Array,
): { dataBytes: number; totalBytes: number } | undefined {
  const dataBytes = file.length - cachePieceTrailerBytes;
  if (dataBytes < 0) return undefined;
  const trailer = Buffer.from(file.buffer, file.byteOffset + dataBytes, cachePieceTrailerBytes);
  if (trailer.readUInt32LE(0) !== magic) return undefined;
  if (trailer.readUInt32LE(4) !== checksum(name, trailer, file.subarray(0, dataBytes))) {
    return undefined;
  }
  return { dataBytes, totalBytes: trailer.readUIntLE(8, 6) };
}

function checksum(name: string, trailer: Buffer, data: Uint8Array): number {
  return crc32(data, crc32(trailer.subarray(8), crc32(Buffer.from(name))));
}
