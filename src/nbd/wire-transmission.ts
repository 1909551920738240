import {
  encodeUtf8,
  Reader,
  readI32,
  readU16,
  readU32,
  readU64,
  Writer,
  writeU16,
  writeU32,
  writeU64,
} from "../base/bytes.ts";
import { KelpieError } from "../base/errors.ts";

/*
 * Transmission phase (doc/proto.md; extended headers: its branch extension-ext-header). Big-endian.
 *
 * Request                        Extended request
 *   0  4  0x25609513               0  4  0x21e41c71
 *   4  2  command flags            4  2  command flags
 *   6  2  command                  6  2  command
 *   8  8  cookie                   8  8  cookie
 *  16  8  offset                  16  8  offset
 *  24  4  length                  24  8  length of the payload (PAYLOAD_LEN), else of the effect
 *  28  …  payload (WRITE)         32  …  payload
 *
 * Simple reply                   Structured chunk            Extended chunk
 *   0  4  0x67446698               0  4  0x668e33ef            0  4  0x6e8a278c
 *   4  4  error                    4  2  flags                 4  2  flags
 *   8  8  cookie                   6  2  type                  6  2  type
 *  16  …  data (READ)              8  8  cookie                8  8  cookie
 *                                 16  4  length               16  8  offset of the request
 *                                 20  …  payload              24  8  length
 *                                                             32  …  payload
 *
 * Encoders of what every request needs write into room that the caller made, and decoders fill an
 * object that the caller keeps: these run hundreds of thousands of times a second. A cookie is
 * opaque and travels as two signed words, so that it never becomes a boxed number.
 */
export const requestMagic = 0x25609513;
export const extendedRequestMagic = 0x21e41c71;
export const simpleReplyMagic = 0x67446698;
export const structuredReplyMagic = 0x668e33ef;
export const extendedReplyMagic = 0x6e8a278c;

export const requestBytes = 28;
export const extendedRequestBytes = 32;
export const simpleReplyBytes = 16;
export const structuredChunkBytes = 20;
export const extendedChunkBytes = 32;

export type HeaderStyle = "simple" | "structured" | "extended";

export const command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const commandFlag = {
  fua: 1 << 0,
  noHole: 1 << 1,
  dontFragment: 1 << 2,
  requestOne: 1 << 3,
  fastZero: 1 << 4,
  payloadLength: 1 << 5,
} as const;

export const chunkFlag = { done: 1 } as const;

export const chunkType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  blockStatusExtended: 6,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

/** "at most 2^20" extents in a block status reply. */
export const blockStatusExtentsMax = 2 ** 20;

export class RequestHeader {
  magic = 0;
  flags = 0;
  command = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** Above 2^53 rounded, as is the length: outside of every disk. */
  offset = 0;
  /** The offset's bits, because an extended reply echoes them whatever they are. */
  offsetHigh = 0;
  offsetLow = 0;
  length = 0;
}

export function decodeRequest(bytes: Uint8Array, at: number, into: RequestHeader): void {
  into.magic = readU32(bytes, at);
  into.flags = readU16(bytes, at + 4);
  into.command = readU16(bytes, at + 6);
  into.cookieHigh = readI32(bytes, at + 8);
  into.cookieLow = readI32(bytes, at + 12);
  into.offsetHigh = readI32(bytes, at + 16);
  into.offsetLow = readI32(bytes, at + 20);
  into.offset = (into.offsetHigh >>> 0) * 2 ** 32 + (into.offsetLow >>> 0);
  into.length = readU32(bytes, at + 24);
}

export function decodeExtendedRequest(bytes: Uint8Array, at: number, into: RequestHeader): void {
  decodeRequest(bytes, at, into);
  into.length = readU64(bytes, at + 24);
}

export type Request = Pick<
  RequestHeader,
  "flags" | "command" | "cookieHigh" | "cookieLow" | "offset" | "length"
>;

/** Returns a new message of the style's size; the payload is sent after it. */
export function encodeRequest(request: Request, extended: boolean): Uint8Array {
  const bytes = new Uint8Array(extended ? extendedRequestBytes : requestBytes);
  writeU32(bytes, 0, extended ? extendedRequestMagic : requestMagic);
  writeU16(bytes, 4, request.flags);
  writeU16(bytes, 6, request.command);
  writeU32(bytes, 8, request.cookieHigh);
  writeU32(bytes, 12, request.cookieLow);
  writeU64(bytes, 16, request.offset);
  if (extended) writeU64(bytes, 24, request.length);
  else writeU32(bytes, 24, request.length);
  return bytes;
}

export function encodeSimpleReply(
  bytes: Uint8Array,
  at: number,
  error: number,
  cookieHigh: number,
  cookieLow: number,
): void {
  writeU32(bytes, at, simpleReplyMagic);
  writeU32(bytes, at + 4, error);
  writeU32(bytes, at + 8, cookieHigh);
  writeU32(bytes, at + 12, cookieLow);
}

export class ChunkHeader {
  magic = 0;
  /** Of a simple reply; 0 in chunks. */
  error = 0;
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** The request's offset, bit for bit; in extended chunks only. */
  offsetHigh = 0;
  offsetLow = 0;
  length = 0;
}

/** Writes the header of a structured or an extended chunk at `at`. */
export function encodeChunkHeader(
  bytes: Uint8Array,
  at: number,
  header: Omit<ChunkHeader, "magic" | "error">,
  extended: boolean,
): void {
  writeU32(bytes, at, extended ? extendedReplyMagic : structuredReplyMagic);
  writeU16(bytes, at + 4, header.flags);
  writeU16(bytes, at + 6, header.type);
  writeU32(bytes, at + 8, header.cookieHigh);
  writeU32(bytes, at + 12, header.cookieLow);
  if (extended) {
    writeU32(bytes, at + 16, header.offsetHigh);
    writeU32(bytes, at + 20, header.offsetLow);
    writeU64(bytes, at + 24, header.length);
  } else {
    writeU32(bytes, at + 16, header.length);
  }
}

/** Bytes of the header that begins with this magic number; undefined if none does. */
export function replyHeaderBytes(magic: number): number | undefined {
  if (magic === simpleReplyMagic) return simpleReplyBytes;
  if (magic === structuredReplyMagic) return structuredChunkBytes;
  if (magic === extendedReplyMagic) return extendedChunkBytes;
  return undefined;
}

/** Decodes a reply header of any kind; its bytes must be there. */
export function decodeReplyHeader(bytes: Uint8Array, at: number, into: ChunkHeader): void {
  into.magic = readU32(bytes, at);
  into.cookieHigh = readI32(bytes, at + 8);
  into.cookieLow = readI32(bytes, at + 12);
  if (into.magic === simpleReplyMagic) {
    into.error = readU32(bytes, at + 4);
    into.flags = chunkFlag.done;
    into.type = chunkType.none;
    into.length = 0;
    return;
  }
  into.error = 0;
  into.flags = readU16(bytes, at + 4);
  into.type = readU16(bytes, at + 6);
  if (into.magic === extendedReplyMagic) {
    into.offsetHigh = readI32(bytes, at + 16);
    into.offsetLow = readI32(bytes, at + 20);
    into.length = readU64(bytes, at + 24);
  } else {
    into.length = readU32(bytes, at + 16);
  }
}

/*
 * Payloads of chunks
 *   OFFSET_DATA       8  offset   …  data
 *   OFFSET_HOLE       8  offset   4  length
 *   ERROR             4  error    2  length of message, n   n  message
 *   ERROR_OFFSET      as ERROR, then 8 offset
 *   BLOCK_STATUS      4  context id   then extents: 4 length   4 flags
 *   BLOCK_STATUS_EXT  4  context id   4  number of extents   then: 8 length   8 flags
 */
export const offsetDataBytes = 8;
export const offsetHoleBytes = 12;

/** Longer messages are cut: enough for a sentence, and a reply header and it fit one packet. */
export const errorMessageBytesMax = 512;

export interface ChunkError {
  error: number;
  message: string;
}

export function encodeError({ error, message }: ChunkError): Uint8Array {
  const text = encodeUtf8(message).subarray(0, errorMessageBytesMax);
  return new Writer().u32(error).u16(text.length).bytes(text).finish();
}

/** Takes ERROR and ERROR_OFFSET, and kinds of error that are not invented yet. */
export function decodeError(payload: Uint8Array): ChunkError {
  const reader = new Reader(payload);
  const error = reader.u32();
  const message = reader.bytes(reader.u16());
  if (error === 0) throw new KelpieError("invalid", "an error chunk without an error");
  return { error, message: Buffer.from(message).toString() }; // not "fatal": it is for people
}

export function encodeOffsetHole(offset: number, length: number): Uint8Array {
  return new Writer().u64(offset).u32(length).finish();
}

export function decodeOffsetHole(payload: Uint8Array): { offset: number; length: number } {
  const reader = new Reader(payload);
  const hole = { offset: reader.u64(), length: reader.u32() };
  reader.end();
  return hole;
}

export interface WireExtent {
  lengthBytes: number;
  value: number;
}

export interface BlockStatus {
  contextId: number;
  extents: WireExtent[];
}

export function encodeBlockStatus(status: BlockStatus, extended: boolean): Uint8Array {
  const { contextId, extents } = status;
  const bytes = new Uint8Array(extended ? 8 + 16 * extents.length : 4 + 8 * extents.length);
  writeU32(bytes, 0, contextId);
  if (extended) writeU32(bytes, 4, extents.length);
  let at = extended ? 8 : 4;
  for (const { lengthBytes, value } of extents) {
    if (extended) {
      writeU64(bytes, at, lengthBytes);
      writeU64(bytes, at + 8, value);
      at += 16;
    } else {
      writeU32(bytes, at, lengthBytes);
      writeU32(bytes, at + 4, value);
      at += 8;
    }
  }
  return bytes;
}

export function decodeBlockStatus(payload: Uint8Array, extended: boolean): BlockStatus {
  const reader = new Reader(payload);
  const contextId = reader.u32();
  const extentBytes = extended ? 16 : 8;
  const announced = extended ? reader.u32() : reader.remaining / extentBytes;
  const isPossible = announced >= 1 && announced <= blockStatusExtentsMax;
  if (!isPossible || announced * extentBytes !== reader.remaining) {
    throw new KelpieError("invalid", "a block status of impossible length");
  }
  const extents: WireExtent[] = [];
  for (let index = 0; index < announced; index++) {
    const lengthBytes = extended ? reader.u64() : reader.u32();
    const value = extended ? reader.u64() : reader.u32();
    if (lengthBytes === 0) throw new KelpieError("invalid", "an empty extent");
    extents.push({ lengthBytes, value });
  }
  return { contextId, extents };
}
