import type { SeededRandom } from "../../sim/random.ts";
import type { Connection } from "../../src/host/net.ts";
import { Channel } from "../../src/nbd/channel.ts";
import * as handshake from "../../src/nbd/wire-handshake.ts";
import * as wire from "../../src/nbd/wire-transmission.ts";
import { settle } from "../support/raw-nbd.ts";
import { pick } from "./generated-requests.ts";
import { mutate } from "./mutate.ts";

/** A reply of more chunks than this has no end. */
const chunksMax = 500;
/** Some turns after its last request a client has got no answer for long enough. */
const patienceTurns = 20;

/**
 * A server whose words are well-formed and whose sense is the seed's. It follows the client through the
 * handshake, and answers requests with chunks that fit, nearly fit, or do not fit at all.
 */
export class EvilServer {
  /** The client listened to a reply without end, to its end. */
  hasFlooded = false;
  readonly #channel: Channel;
  readonly #random: SeededRandom;
  readonly #style: wire.HeaderStyle;
  /** How often it does not do as it should: never, seldom, often. */
  #malice: number;
  #isGone = false;

  constructor(
    connection: Connection,
    { random, style }: { random: SeededRandom; style: wire.HeaderStyle },
  ) {
    this.#channel = new Channel(connection);
    this.#random = random;
    this.#style = style;
    this.#malice = pick(random, [0, 3, 10, 40]);
    void this.#channel.closed.then(() => {
      this.#isGone = true;
    });
    void this.#run();
  }

  async #run(): Promise<void> {
    const { connection } = this.#channel;
    try {
      void this.#loseInterest();
      await this.#handshake();
      for (;;) await this.#answer(await this.#request());
    } catch {
      connection.destroy(); // the client has left, or is led astray and says nonsense
    }
  }

  /** Cuts the connection off in the end: a client may wait for an answer till then. */
  async #loseInterest(): Promise<void> {
    for (let turn = 0; turn < patienceTurns && !this.#isGone; turn++) await settle();
    this.#channel.connection.destroy();
  }

  async #handshake(): Promise<void> {
    const { option, optionReply, optionError } = handshake;
    this.#send(handshake.encodeGreeting(3));
    await this.#channel.take(4);
    for (;;) {
      const header = handshake.decodeOptionHeader(await this.#channel.take(16));
      await this.#channel.take(header.length);
      const reply = (type: number, data?: Uint8Array) =>
        this.#send(handshake.encodeOptionReply(header.option, type, data));
      const styles = {
        simple: -1,
        structured: option.structuredReply,
        extended: option.extendedHeaders,
      };
      if (header.option === option.go || header.option === option.setMetaContext) {
        for (let count = this.#errs() ? this.#random.below(50) : 1; count > 0; count--) {
          this.#information(header.option, reply);
        }
      }
      if (this.#errs()) reply(pick(this.#random, Object.values(optionError)), Buffer.from("no"));
      else if (header.option === option.go) reply(optionReply.ack);
      else if (header.option === styles[this.#style]) reply(optionReply.ack);
      else if (header.option === option.listMetaContext) reply(optionReply.ack);
      else if (header.option === option.setMetaContext) reply(optionReply.ack);
      else reply(optionError.unsupported);
      if (header.option === option.go) return;
    }
  }

  #information(number: number, reply: (type: number, data: Uint8Array) => void): void {
    const { optionReply } = handshake;
    if (number === handshake.option.setMetaContext) {
      const name = pick(this.#random, ["base:allocation", "base:allocation", "qemu:x"]);
      reply(optionReply.metaContext, handshake.encodeMetaContext({ id: 7, name }));
      return;
    }
    const sizeBytes = this.#errs() ? pick(this.#random, [0, 1, 2 ** 44, 2 ** 53 - 1]) : 2 ** 17;
    const transmissionFlags = this.#errs() ? this.#random.below(2 ** 16) : 0b1101_0110_1101;
    reply(optionReply.info, handshake.encodeInfo({ type: "export", sizeBytes, transmissionFlags }));
    const payloadBytesMax = this.#errs() ? this.#random.below(2 ** 16) : 2 ** 25;
    const sizes = { minimumBytes: 1, preferredBytes: 4096, payloadBytesMax };
    reply(optionReply.info, handshake.encodeInfo({ type: "block-size", ...sizes }));
  }

  async #request(): Promise<wire.RequestHeader> {
    const extended = this.#style === "extended";
    const header = new wire.RequestHeader();
    const headerBytes = extended ? wire.extendedRequestBytes : wire.requestBytes;
    const bytes = await this.#channel.take(headerBytes);
    if (extended) wire.decodeExtendedRequest(bytes, 0, header);
    else wire.decodeRequest(bytes, 0, header);
    if (header.command === wire.command.write) await this.#channel.discard(header.length);
    if (header.command === wire.command.disconnect) throw new Error("good-bye");
    return header;
  }

  async #answer(request: wire.RequestHeader): Promise<void> {
    if (this.#errs() && this.#random.below(4) === 0) return; // no answer at all
    if (this.#errs() && this.#random.below(3) === 0) return this.#flood(request);
    if (this.#style === "simple") this.#simple(request);
    else if (request.command === wire.command.read) this.#data(request);
    else if (request.command === wire.command.blockStatus) this.#status(request);
    else this.#chunk(request, wire.chunkType.none, new Uint8Array(0));
    if (this.#errs()) this.#chunk(request, this.#random.below(2 ** 16), this.#random.bytes(12));
  }

  /** Chunks that are allowed one by one, and never the last. */
  async #flood(request: wire.RequestHeader): Promise<void> {
    this.#malice = 0; // each chunk by itself is as it should be
    for (let count = 0; count < chunksMax; count++) {
      const extents = [{ lengthBytes: 512, value: 0 }];
      const extended = this.#style === "extended";
      if (request.command === wire.command.blockStatus) {
        const contextId = this.#random.below(2) === 0 ? 7 : count;
        const type = extended ? wire.chunkType.blockStatusExtended : wire.chunkType.blockStatus;
        this.#chunk(request, type, wire.encodeBlockStatus({ contextId, extents }, extended), 0);
      } else {
        this.#chunk(request, wire.chunkType.none, new Uint8Array(0), 0);
      }
      if (count % 10 === 0) await new Promise(setImmediate);
      if (this.#isGone) return;
    }
    this.hasFlooded = true;
  }

  #simple(request: wire.RequestHeader): void {
    const bytes = new Uint8Array(16);
    const error = this.#errs() ? this.#random.below(200) : 0;
    wire.encodeSimpleReply(bytes, 0, error, request.cookieHigh, request.cookieLow);
    this.#send(bytes);
    const isRead = request.command === wire.command.read && error === 0;
    if (isRead) this.#send(new Uint8Array(request.length).fill(5));
  }

  /** In pieces, in any order, some of them holes. */
  #data(request: wire.RequestHeader): void {
    const pieces: [number, number][] = [];
    for (let at = 0; at < request.length; ) {
      const length = Math.min(request.length - at, 1 + this.#random.below(request.length));
      pieces.push([at, length]);
      at += length;
    }
    while (pieces.length > 0) {
      const [piece] = pieces.splice(this.#random.below(pieces.length), 1);
      let [at = 0, length = 0] = piece ?? [];
      if (this.#errs()) at += this.#random.below(9) - 4;
      if (this.#errs()) length = this.#random.below(length * 2);
      const offset = request.offset + at;
      if (offset < 0) continue;
      const done = pieces.length === 0 ? 1 : 0;
      if (this.#random.below(3) === 0) {
        const hole = wire.encodeOffsetHole(offset, length);
        this.#chunk(request, wire.chunkType.offsetHole, hole, done);
      } else {
        const payload = Buffer.alloc(8 + length, 5);
        payload.writeUIntBE(0, 0, 2);
        payload.writeUIntBE(offset, 2, 6);
        this.#chunk(request, wire.chunkType.offsetData, payload, done);
      }
    }
  }

  #status(request: wire.RequestHeader): void {
    const extended = this.#style === "extended";
    const count = this.#errs() ? this.#random.below(30_000) : 1 + this.#random.below(4);
    const extents = Array.from({ length: count }, () => ({
      lengthBytes: 512 * (this.#errs() ? this.#random.below(2 ** 22) : 1 + this.#random.below(99)),
      value: this.#random.below(4),
    }));
    const contextId = this.#errs() ? this.#random.below(9) : 7;
    const type = extended ? wire.chunkType.blockStatusExtended : wire.chunkType.blockStatus;
    this.#chunk(request, type, wire.encodeBlockStatus({ contextId, extents }, extended));
  }

  #chunk(request: wire.RequestHeader, type: number, payload: Uint8Array, flags = 1): void {
    const extended = this.#style === "extended";
    const bytes = new Uint8Array(extended ? wire.extendedChunkBytes : wire.structuredChunkBytes);
    const { cookieHigh, offsetHigh, offsetLow } = request;
    const cookieLow = this.#errs() ? this.#random.below(9) : request.cookieLow;
    const length = this.#errs() ? pick(this.#random, [0, 1, 2 ** 24, 2 ** 32 - 1]) : payload.length;
    const header = { flags, type, cookieHigh, cookieLow, offsetHigh, offsetLow, length };
    wire.encodeChunkHeader(bytes, 0, header, extended);
    this.#send(Buffer.concat([bytes, payload]));
  }

  #send(bytes: Uint8Array): void {
    const malicious = this.#errs() && this.#random.below(4) === 0;
    this.#channel.send(malicious ? mutate(bytes, this.#random) : bytes);
  }

  #errs(): boolean {
    return this.#random.below(200) < this.#malice;
  }
}
