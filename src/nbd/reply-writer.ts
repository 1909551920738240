import type { BufferPool } from "../base/buffer-pool.ts";
import { writeU64 } from "../base/bytes.ts";
import { ReplyBuffer } from "../base/reply-buffer.ts";
import {
  type ChunkHeader,
  chunkFlag,
  chunkType,
  encodeChunkHeader,
  encodeError,
  encodeSimpleReply,
  extendedChunkBytes,
  type HeaderStyle,
  offsetDataBytes,
  simpleReplyBytes,
  structuredChunkBytes,
} from "./wire-transmission.ts";

/** What a reply echoes of its request. */
export interface ReplyAddress {
  cookieHigh: number;
  cookieLow: number;
  offset: number;
  offsetHigh: number;
  offsetLow: number;
}

/**
 * Writes replies in the style that was negotiated. With structured replies, reads and all failures
 * are answered in chunks and other successes with the shorter simple reply, as is allowed; with
 * extended headers everything is a chunk.
 */
export class ReplyWriter {
  readonly #buffer: ReplyBuffer;
  readonly #style: HeaderStyle;
  readonly #extended: boolean;
  /** Of a read's reply, before its data. */
  readonly #readHeadBytes: number;
  readonly #chunkHeadBytes: number;
  /** Filled in anew for each chunk. */
  readonly #header: Omit<ChunkHeader, "magic" | "error"> = {
    flags: 0,
    type: 0,
    cookieHigh: 0,
    cookieLow: 0,
    offsetHigh: 0,
    offsetLow: 0,
    length: 0,
  };

  constructor(style: HeaderStyle, pool: BufferPool) {
    this.#buffer = new ReplyBuffer(pool);
    this.#style = style;
    this.#extended = style === "extended";
    this.#chunkHeadBytes = this.#extended ? extendedChunkBytes : structuredChunkBytes;
    this.#readHeadBytes =
      style === "simple" ? simpleReplyBytes : this.#chunkHeadBytes + offsetDataBytes;
  }

  get byteLength(): number {
    return this.#buffer.byteLength;
  }

  takeAll(): Uint8Array[] {
    return this.#buffer.takeAll();
  }

  /** See `ReplyBuffer.reuse`. */
  reuse(unsentBytes: number): void {
    this.#buffer.reuse(unsentBytes);
  }

  success(to: ReplyAddress): void {
    if (this.#extended) {
      this.#buffer.reserve(extendedChunkBytes);
      const { bytes, offset } = this.#buffer;
      this.#chunkHeader(bytes, offset, to, chunkType.none, 0);
      return;
    }
    this.#buffer.reserve(simpleReplyBytes);
    const { bytes, offset } = this.#buffer;
    encodeSimpleReply(bytes, offset, 0, to.cookieHigh, to.cookieLow);
  }

  failure(to: ReplyAddress, error: number, message: string): void {
    if (this.#style === "simple") {
      this.#buffer.reserve(simpleReplyBytes);
      const { bytes, offset } = this.#buffer;
      encodeSimpleReply(bytes, offset, error, to.cookieHigh, to.cookieLow);
      return;
    }
    this.#chunk(to, chunkType.error, encodeError({ error, message }), chunkFlag.done);
  }

  /** Makes room for a read's reply; gives the room for its data. */
  reserveRead(length: number): Uint8Array {
    const head = this.#readHeadBytes;
    this.#buffer.reserve(head + length);
    const { bytes, offset } = this.#buffer;
    return bytes.subarray(offset + head, offset + head + length);
  }

  /** The device has failed: the room is not needed. */
  cancelRead(): void {
    this.#buffer.cancel();
  }

  /** The data is in its room. */
  finishRead(to: ReplyAddress, length: number): void {
    if (length === 0 && this.#style !== "simple") {
      this.#buffer.cancel();
      this.#emptyRead(to);
      return;
    }
    this.#readHeader(this.#buffer.bytes, this.#buffer.offset, to, length);
  }

  /** The data will be there later: see `appendRead`. */
  detachRead(): Uint8Array {
    return this.#buffer.detach();
  }

  appendRead(to: ReplyAddress, reply: Uint8Array): void {
    this.#readHeader(reply, 0, to, reply.length - this.#readHeadBytes);
    this.#buffer.attach(reply);
  }

  /** A content chunk must hold at least one byte, and a simple reply to a read is forbidden. */
  #emptyRead(to: ReplyAddress): void {
    this.#buffer.reserve(this.#chunkHeadBytes);
    this.#chunkHeader(this.#buffer.bytes, this.#buffer.offset, to, chunkType.none, 0);
  }

  status(to: ReplyAddress, payloads: readonly Uint8Array[]): void {
    const type = this.#extended ? chunkType.blockStatusExtended : chunkType.blockStatus;
    for (const [index, payload] of payloads.entries()) {
      this.#chunk(to, type, payload, index === payloads.length - 1 ? chunkFlag.done : 0);
    }
  }

  #readHeader(bytes: Uint8Array, at: number, to: ReplyAddress, length: number): void {
    if (this.#style === "simple") {
      encodeSimpleReply(bytes, at, 0, to.cookieHigh, to.cookieLow);
      return;
    }
    this.#chunkHeader(bytes, at, to, chunkType.offsetData, offsetDataBytes + length);
    writeU64(bytes, at + this.#chunkHeadBytes, to.offset);
  }

  #chunk(to: ReplyAddress, type: number, payload: Uint8Array, flags: number): void {
    this.#buffer.reserve(this.#chunkHeadBytes);
    const { bytes, offset } = this.#buffer;
    this.#chunkHeader(bytes, offset, to, type, payload.length, flags);
    this.#buffer.append(payload);
  }

  #chunkHeader(
    bytes: Uint8Array,
    at: number,
    to: ReplyAddress,
    type: number,
    length: number,
    flags: number = chunkFlag.done,
  ): void {
    const header = this.#header;
    header.flags = flags;
    header.type = type;
    header.cookieHigh = to.cookieHigh;
    header.cookieLow = to.cookieLow;
    header.offsetHigh = to.offsetHigh;
    header.offsetLow = to.offsetLow;
    header.length = length;
    encodeChunkHeader(bytes, at, header, this.#extended);
  }
}
