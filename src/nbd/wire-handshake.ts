import { encodeUtf8, Reader, Writer } from "../base/bytes.ts";
import { KelpieError } from "../base/errors.ts";

/*
 * Fixed newstyle handshake (doc/proto.md of NetworkBlockDevice/nbd). All numbers big-endian.
 *
 * Greeting, server           Client flags                 Option, client
 *   0  8  "NBDMAGIC"           0  4  flags                  0   8  "IHAVEOPT"
 *   8  8  "IHAVEOPT"                                        8   4  option
 *  16  2  flags                                            12   4  length of data
 *                                                          16   …  data
 * Option reply, server
 *   0  8  0x0003e889045565a9
 *   8  4  option
 *  12  4  reply type, bit 31: error
 *  16  4  length of data
 *  20  …  data
 *
 * Unknown client flags end the session, as the specification says; unknown options are answered.
 */
export const greetingBytes = 18;
export const clientFlagsBytes = 4;
export const optionHeaderBytes = 16;
export const optionReplyHeaderBytes = 20;

export const handshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

export const optionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
} as const;

const errorBit = 0x80000000;

export const optionError = {
  unsupported: errorBit + 1,
  policy: errorBit + 2,
  invalid: errorBit + 3,
  platform: errorBit + 4,
  tlsRequired: errorBit + 5,
  unknown: errorBit + 6,
  shutdown: errorBit + 7,
  blockSizeRequired: errorBit + 8,
  tooBig: errorBit + 9,
  extendedHeadersRequired: errorBit + 10,
} as const;

export const infoType = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const transmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDontFragment: 1 << 7,
  canMultiConnect: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
} as const;

/** "MUST be no longer than 4096 bytes": names, descriptions, queries, messages. */
export const stringBytesMax = 4096;

const nbdMagicHigh = 0x4e42444d; // NBDM
const nbdMagicLow = 0x41474943; // AGIC
const optionMagicHigh = 0x49484156; // IHAV
const optionMagicLow = 0x454f5054; // EOPT
const replyMagicHigh = 0x0003e889;
const replyMagicLow = 0x045565a9;

export function isErrorReply(type: number): boolean {
  return type >= errorBit;
}

export function encodeGreeting(flags: number): Uint8Array {
  return new Writer()
    .u32(nbdMagicHigh)
    .u32(nbdMagicLow)
    .u32(optionMagicHigh)
    .u32(optionMagicLow)
    .u16(flags)
    .finish();
}

/** Returns the handshake flags. */
export function decodeGreeting(bytes: Uint8Array): number {
  const reader = new Reader(bytes);
  expectMagic(reader, nbdMagicHigh, nbdMagicLow, "this is not an NBD server");
  const message = "the NBD server only speaks the oldstyle protocol, which ended in 2013";
  expectMagic(reader, optionMagicHigh, optionMagicLow, message);
  return reader.u16();
}

export function encodeOption(number: number, data: Uint8Array): Uint8Array {
  return new Writer()
    .u32(optionMagicHigh)
    .u32(optionMagicLow)
    .u32(number)
    .u32(data.length)
    .bytes(data)
    .finish();
}

export interface OptionHeader {
  option: number;
  length: number;
}

export function decodeOptionHeader(bytes: Uint8Array): OptionHeader {
  const reader = new Reader(bytes);
  expectMagic(reader, optionMagicHigh, optionMagicLow, "an option without its magic number");
  return { option: reader.u32(), length: reader.u32() };
}

export function encodeOptionReply(number: number, type: number, data?: Uint8Array): Uint8Array {
  const writer = new Writer()
    .u32(replyMagicHigh)
    .u32(replyMagicLow)
    .u32(number)
    .u32(type)
    .u32(data?.length ?? 0);
  if (data !== undefined) writer.bytes(data);
  return writer.finish();
}

export interface OptionReplyHeader {
  option: number;
  type: number;
  length: number;
}

export function decodeOptionReplyHeader(bytes: Uint8Array): OptionReplyHeader {
  const reader = new Reader(bytes);
  expectMagic(reader, replyMagicHigh, replyMagicLow, "an option reply without its magic number");
  return { option: reader.u32(), type: reader.u32(), length: reader.u32() };
}

/*
 * EXPORT_NAME: data is the name; the answer is not an option reply but
 *   0   8  size of the export
 *   8   2  transmission flags
 *  10 124  zeros, unless NO_ZEROES was agreed
 */
export const exportNameReplyBytes = 10;
export const exportNameZeroes = 124;

export interface ExportFacts {
  sizeBytes: number;
  transmissionFlags: number;
}

export function encodeExportNameReply(facts: ExportFacts, noZeroes: boolean): Uint8Array {
  const writer = new Writer("big", 134).u64(facts.sizeBytes).u16(facts.transmissionFlags);
  return (noZeroes ? writer : writer.zeros(exportNameZeroes)).finish();
}

export function decodeExportNameReply(bytes: Uint8Array): ExportFacts {
  const reader = new Reader(bytes);
  return { sizeBytes: reader.u64(), transmissionFlags: reader.u16() };
}

/*
 * INFO and GO
 *   0  4  length of name, n
 *   4  n  name
 *   …  2  number of information requests, k
 *   …  2k information types
 */
export interface InfoRequest {
  name: string;
  wanted: number[];
}

export function encodeInfoRequest(request: InfoRequest): Uint8Array {
  const writer = new Writer();
  writeString(writer, request.name);
  writer.u16(request.wanted.length);
  for (const type of request.wanted) writer.u16(type);
  return writer.finish();
}

export function decodeInfoRequest(data: Uint8Array): InfoRequest {
  const reader = new Reader(data);
  const name = readString(reader);
  const count = reader.u16();
  if (reader.remaining !== count * 2) throw new KelpieError("invalid", "wrong number of requests");
  const wanted: number[] = [];
  for (let index = 0; index < count; index++) wanted.push(reader.u16());
  return { name, wanted };
}

/*
 * Data of an INFO reply: 2 bytes information type, then
 *   EXPORT       8  size   2  transmission flags
 *   NAME         …  name
 *   DESCRIPTION  …  text
 *   BLOCK_SIZE   4  minimum   4  preferred   4  maximum payload
 */
export type Info =
  | ({ type: "export" } & ExportFacts)
  | { type: "name"; name: string }
  | { type: "description"; description: string }
  | ({ type: "block-size" } & BlockSizes)
  | { type: "other" };

export interface BlockSizes {
  minimumBytes: number;
  preferredBytes: number;
  payloadBytesMax: number;
}

export function encodeInfo(info: Exclude<Info, { type: "other" }>): Uint8Array {
  const writer = new Writer();
  switch (info.type) {
    case "export":
      return writer.u16(infoType.export).u64(info.sizeBytes).u16(info.transmissionFlags).finish();
    case "name":
      return writer.u16(infoType.name).utf8(info.name).finish();
    case "description":
      return writer.u16(infoType.description).utf8(info.description).finish();
    case "block-size":
      return writer
        .u16(infoType.blockSize)
        .u32(info.minimumBytes)
        .u32(info.preferredBytes)
        .u32(info.payloadBytesMax)
        .finish();
  }
}

export function decodeInfo(data: Uint8Array): Info {
  const reader = new Reader(data);
  switch (reader.u16()) {
    case infoType.export: {
      const facts = { sizeBytes: reader.u64(), transmissionFlags: reader.u16() };
      reader.end();
      return { type: "export", ...facts };
    }
    case infoType.name:
      return { type: "name", name: reader.utf8(reader.remaining) };
    case infoType.description:
      return { type: "description", description: reader.utf8(reader.remaining) };
    case infoType.blockSize: {
      const [minimumBytes, preferredBytes] = [reader.u32(), reader.u32()];
      const payloadBytesMax = reader.u32();
      reader.end();
      return { type: "block-size", minimumBytes, preferredBytes, payloadBytesMax };
    }
    default:
      return { type: "other" };
  }
}

/*
 * LIST_META_CONTEXT and SET_META_CONTEXT
 *   0  4  length of export name, n
 *   4  n  export name
 *   …  4  number of queries
 *   …     for each: 4 length, query
 */
export interface MetaContextRequest {
  name: string;
  queries: string[];
}

export function encodeMetaContextRequest(request: MetaContextRequest): Uint8Array {
  const writer = new Writer();
  writeString(writer, request.name);
  writer.u32(request.queries.length);
  for (const query of request.queries) writeString(writer, query);
  return writer.finish();
}

export function decodeMetaContextRequest(data: Uint8Array): MetaContextRequest {
  const reader = new Reader(data);
  const name = readString(reader);
  const count = reader.u32();
  const queries: string[] = [];
  for (let index = 0; index < count; index++) queries.push(readString(reader)); // to its end
  reader.end();
  return { name, queries };
}

/*
 * Data of a META_CONTEXT reply: 4 bytes id, then the context's name.
 */
export interface MetaContext {
  id: number;
  name: string;
}

export function encodeMetaContext(context: MetaContext): Uint8Array {
  return new Writer().u32(context.id).utf8(context.name).finish();
}

export function decodeMetaContext(data: Uint8Array): MetaContext {
  const reader = new Reader(data);
  return { id: reader.u32(), name: reader.utf8(reader.remaining) };
}

/*
 * Data of a SERVER reply: 4 bytes length of name, name, then a description.
 */
export interface ListedExport {
  name: string;
  description: string;
}

export function encodeListedExport(listed: ListedExport): Uint8Array {
  const writer = new Writer();
  writeString(writer, listed.name);
  return writer.utf8(listed.description).finish();
}

export function decodeListedExport(data: Uint8Array): ListedExport {
  const reader = new Reader(data);
  return { name: readString(reader), description: reader.utf8(reader.remaining) };
}

/** Throws "invalid" for what no export name can be. */
export function checkString(text: string): string {
  if (text.includes("\0")) throw new KelpieError("invalid", "a name contains a zero byte");
  return text;
}

function readString(reader: Reader): string {
  const length = reader.u32();
  if (length > stringBytesMax) {
    throw new KelpieError("invalid", `a string of ${length} bytes is too long`);
  }
  return checkString(reader.utf8(length));
}

function writeString(writer: Writer, text: string): void {
  const bytes = encodeUtf8(text);
  writer.u32(bytes.length).bytes(bytes);
}

function expectMagic(reader: Reader, high: number, low: number, otherwise: string): void {
  const found = reader.u32() === high && reader.u32() === low;
  if (!found) throw new KelpieError("invalid", otherwise);
}
