import type { ByteQueue } from "../base/byte-queue.ts";
import { joinBytes, readU32, readU64 } from "../base/bytes.ts";
import { KelpieError } from "../base/errors.ts";
import { contextsMax } from "./limits.ts";
import {
  type BlockStatus,
  blockStatusExtentsMax,
  type ChunkError,
  ChunkHeader,
  chunkFlag,
  chunkType,
  decodeBlockStatus,
  decodeError,
  decodeOffsetHole,
  decodeReplyHeader,
  type HeaderStyle,
  offsetDataBytes,
  offsetHoleBytes,
  replyHeaderBytes,
  simpleReplyMagic,
  structuredReplyMagic,
} from "./wire-transmission.ts";

/** A request that waits for its reply, as far as parsing the reply needs it. */
export interface AwaitedReply {
  readonly command: "read" | "status" | "other";
  readonly offset: number;
  /** Of a read: where its data goes. */
  readonly target: Uint8Array;
  readonly covered: Coverage;
  readonly status: BlockStatus[];
  error: ChunkError | undefined;
}

export interface ReplyEvents {
  /** The request with this cookie, or undefined: the server made it up. */
  find(cookieHigh: number, cookieLow: number): AwaitedReply | undefined;
  /** The last chunk of its reply is here. */
  finished(awaited: AwaitedReply, cookieLow: number): void;
}

/** Contexts times extents of 16 bytes; nothing that is not read data may be longer. */
const payloadBytesMax = blockStatusExtentsMax * 16 + 8;

/**
 * Parses what a server sends in the transmission phase. The data of reads goes from the incoming
 * chunks straight to where it is wanted. Throws "io" for everything the server must not send.
 */
export class ReplyParser {
  readonly #queue: ByteQueue;
  readonly #style: HeaderStyle;
  readonly #events: ReplyEvents;
  readonly #header = new ChunkHeader();
  #awaited: AwaitedReply | undefined;
  /** The part of a read's target that is arriving. */
  #arriving: Uint8Array | undefined;
  #arrived = 0;

  constructor(queue: ByteQueue, style: HeaderStyle, events: ReplyEvents) {
    this.#queue = queue;
    this.#style = style;
    this.#events = events;
  }

  /** Parses all that is there. */
  parse(): void {
    while (this.#step());
  }

  #step(): boolean {
    if (this.#arriving !== undefined) return this.#receiveData();
    if (this.#awaited !== undefined) return this.#receivePayload(this.#awaited);
    const queue = this.#queue;
    if (!queue.gather(4)) return false;
    const length = this.#headerBytes(readU32(queue.head, queue.headOffset));
    if (!queue.gather(length)) return false;
    const header = this.#header;
    decodeReplyHeader(queue.head, queue.headOffset, header);
    queue.skip(length);
    const awaited = this.#events.find(header.cookieHigh, header.cookieLow);
    if (awaited === undefined) throw broken("a reply to a request that was not sent");
    this.#awaited = awaited;
    if (header.magic === simpleReplyMagic) this.#simpleReply(awaited);
    else this.#checkChunk(awaited);
    return true;
  }

  #headerBytes(magic: number): number {
    const length = replyHeaderBytes(magic);
    const isSimple = magic === simpleReplyMagic;
    const isStructured = magic === structuredReplyMagic;
    const allowed =
      this.#style === "extended"
        ? !isSimple && !isStructured
        : isSimple || (isStructured && this.#style === "structured");
    if (length === undefined || !allowed) throw broken("a reply with a wrong magic number");
    return length;
  }

  #simpleReply(awaited: AwaitedReply): void {
    const { error } = this.#header;
    if (this.#style !== "simple" && awaited.command !== "other") {
      throw broken("a simple reply to a request that returns data");
    }
    if (error !== 0) awaited.error = { error, message: "" };
    else if (awaited.command === "read") {
      this.#receiveAt(awaited, awaited.offset, awaited.target.length);
    }
  }

  #checkChunk(awaited: AwaitedReply): void {
    const { type, length, flags } = this.#header;
    const { command } = awaited;
    if (type === chunkType.none) {
      const wrong = length !== 0 || (flags & chunkFlag.done) === 0;
      if (wrong) throw broken("an empty chunk that is not");
    } else if (type === chunkType.offsetData) {
      const longest = offsetDataBytes + awaited.target.length;
      if (command !== "read" || length <= offsetDataBytes || length > longest) {
        throw broken("data of impossible length");
      }
    } else if (type === chunkType.offsetHole) {
      if (command !== "read" || length !== offsetHoleBytes) throw broken("a hole of wrong length");
    } else if (type === this.#statusType()) {
      if (command !== "status") throw broken("a block status nobody asked for");
    } else if (type < chunkType.error - 1) {
      throw broken(`a chunk of unknown type ${type}`);
    }
    if (length > payloadBytesMax && type !== chunkType.offsetData) throw broken("too long a chunk");
  }

  #receivePayload(awaited: AwaitedReply): boolean {
    const { type, length } = this.#header;
    if (type === chunkType.offsetData) {
      if (!this.#queue.gather(offsetDataBytes)) return false;
      const offset = readU64(this.#queue.head, this.#queue.headOffset);
      this.#queue.skip(offsetDataBytes);
      this.#receiveAt(awaited, offset, length - offsetDataBytes);
      return true;
    }
    if (this.#queue.byteLength < length) return false;
    if (length > 0) this.#payload(awaited, joinBytes(this.#queue.take(length)));
    this.#finishChunk();
    return true;
  }

  #payload(awaited: AwaitedReply, payload: Uint8Array): void {
    const { type } = this.#header;
    try {
      if (type === chunkType.offsetHole) {
        const { offset, length } = decodeOffsetHole(payload);
        cover(awaited, offset, length).fill(0);
      } else if (type === this.#statusType()) {
        addStatus(awaited.status, decodeBlockStatus(payload, this.#style === "extended"));
      } else {
        awaited.error ??= decodeError(payload);
      }
    } catch (error) {
      throw error instanceof KelpieError ? broken(error.message) : error;
    }
  }

  #receiveAt(awaited: AwaitedReply, offset: number, length: number): void {
    this.#arriving = cover(awaited, offset, length);
    this.#arrived = 0;
  }

  #receiveData(): boolean {
    const arriving = this.#arriving as Uint8Array;
    this.#arrived += this.#queue.copyInto(arriving.subarray(this.#arrived));
    if (this.#arrived < arriving.length) return false;
    this.#arriving = undefined;
    this.#finishChunk();
    return true;
  }

  #finishChunk(): void {
    const awaited = this.#awaited as AwaitedReply;
    this.#awaited = undefined;
    if ((this.#header.flags & chunkFlag.done) === 0) return;
    const { length } = awaited.target;
    if (
      awaited.command === "read" &&
      awaited.error === undefined &&
      awaited.covered.bytes < length
    ) {
      throw broken("a read was answered in part");
    }
    this.#events.finished(awaited, this.#header.cookieLow);
  }

  #statusType(): number {
    return this.#style === "extended" ? chunkType.blockStatusExtended : chunkType.blockStatus;
  }
}

/** A server that fragments more than this does it to use up memory. */
const fragmentsMax = 16_384;

/** Which bytes of a read have arrived: ranges, sorted, neighbours joined. In order there is one. */
export class Coverage {
  bytes = 0;
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /** False if it overlaps what is there, or there are too many pieces. */
  add(start: number, end: number): boolean {
    let index = this.#ends.length;
    while (index > 0 && (this.#starts[index - 1] as number) >= end) index--;
    const before = index === 0 ? Number.NEGATIVE_INFINITY : (this.#ends[index - 1] as number);
    if (before > start || this.#ends.length >= fragmentsMax) return false;
    this.bytes += end - start;
    if (before === start) this.#ends[index - 1] = end;
    else {
      this.#starts.splice(index, 0, start);
      this.#ends.splice(index, 0, end);
    }
    return true;
  }
}

/** One for each context: a server that goes on would use up the memory. */
function addStatus(all: BlockStatus[], added: BlockStatus): void {
  const again = all.some(({ contextId }) => contextId === added.contextId);
  if (again || all.length >= contextsMax) throw broken("a block status too many");
  all.push(added);
}

/** The part of a read's target that a content chunk fills. */
function cover(awaited: AwaitedReply, offset: number, length: number): Uint8Array {
  const start = offset - awaited.offset;
  const inside = start >= 0 && start + length <= awaited.target.length;
  if (!inside) throw broken("data outside of what was asked for");
  if (length > 0 && !awaited.covered.add(start, start + length)) throw broken("overlapping data");
  return awaited.target.subarray(start, start + length);
}

function broken(what: string): KelpieError {
  return new KelpieError("io", `the NBD server breaks the protocol: ${what}`);
}
