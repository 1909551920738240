import { crc32 } from "../../base/crc32.ts";
import { KelpieError } from "../../base/errors.ts";

/**
 * The envelope of every record and file that is written as a whole.
 *
 * | offset | size | name    | meaning                                            |
 * | ------ | ---- | ------- | -------------------------------------------------- |
 * | 0      | 4    | magic   | "KLPF"                                             |
 * | 4      | 2    | type    | what the payload is                                |
 * | 6      | 2    | version | of the payload's layout                            |
 * | 8      | 4    | length  | of the payload, in bytes                           |
 * | 12     | 4    | crc     | CRC-32 of bytes 0 to 11, then of the payload       |
 * | 16     | …    | payload |                                                    |
 *
 * Little-endian, as everything on disk. A type or version that is not known is refused.
 */
export const frameHeaderBytes = 16;
const magic = 0x46504c4b;

export const frameType = {
  identity: 1,
  catalogRecord: 2,
  checkpoint: 3,
  summary: 4,
  segmentBody: 5,
  mapBody: 6,
} as const;

export interface FrameKind {
  type: number;
  version: number;
  /** For messages: "catalog record". */
  what: string;
}

export function encodeFrame(kind: FrameKind, payload: Uint8Array): Uint8Array[] {
  const header = Buffer.alloc(frameHeaderBytes);
  header.writeUInt32LE(magic, 0);
  header.writeUInt16LE(kind.type, 4);
  header.writeUInt16LE(kind.version, 6);
  header.writeUInt32LE(payload.length, 8);
  header.writeUInt32LE(crc32(payload, crc32(header.subarray(0, 12))), 12);
  return [header, payload];
}

/** The payload, as a view of `bytes`. Bytes after the frame are ignored. */
export function decodeFrame(kind: FrameKind, bytes: Uint8Array, object: string): Uint8Array {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < frameHeaderBytes || view.readUInt32LE(0) !== magic) {
    throw damaged(kind, object, "it does not begin with a Kelpie frame");
  }
  const length = view.readUInt32LE(8);
  if (length > view.length - frameHeaderBytes) throw damaged(kind, object, "it is cut short");
  const payload = view.subarray(frameHeaderBytes, frameHeaderBytes + length);
  if (crc32(payload, crc32(view.subarray(0, 12))) !== view.readUInt32LE(12)) {
    throw damaged(kind, object, "its checksum does not match");
  }
  const type = view.readUInt16LE(4);
  const version = view.readUInt16LE(6);
  if (type !== kind.type) throw damaged(kind, object, `it is of type ${type}`);
  if (version !== kind.version) {
    throw new KelpieError(
      "unsupported",
      `${object} is a ${kind.what} of version ${version}; this Kelpie reads ${kind.version}`,
      { remedy: "Use the version of Kelpie that wrote this store, or a newer one." },
    );
  }
  return payload;
}

export function encodeJsonFrame(kind: FrameKind, value: unknown): Uint8Array[] {
  return encodeFrame(kind, Buffer.from(JSON.stringify(value)));
}

export function decodeJsonFrame(kind: FrameKind, bytes: Uint8Array, object: string): unknown {
  const payload = decodeFrame(kind, bytes, object);
  try {
    return JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString());
  } catch (cause) {
    throw new KelpieError("corrupt", `${object} is not a valid ${kind.what}`, { cause });
  }
}

function damaged(kind: FrameKind, object: string, why: string): KelpieError {
  return new KelpieError("corrupt", `${object} is not a valid ${kind.what}: ${why}`);
}
