import assert from "node:assert/strict";
import type { ByteBudget } from "../../src/base/byte-budget.ts";
import { readU32 } from "../../src/base/bytes.ts";
import type { BlockDevice } from "../../src/block/block-device.ts";
import { StaticExports } from "../../src/block/static-exports.ts";
import { type Log, silentLog } from "../../src/host/log.ts";
import { Channel } from "../../src/nbd/channel.ts";
import { createNbdServer, type NbdServer, type NbdServerSettings } from "../../src/nbd/server.ts";
import {
  decodeOptionReplyHeader,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  greetingBytes,
  isErrorReply,
  option,
  optionReply,
  optionReplyHeaderBytes,
} from "../../src/nbd/wire-handshake.ts";
import {
  ChunkHeader,
  chunkFlag,
  command,
  commandFlag,
  decodeReplyHeader,
  encodeRequest,
  type HeaderStyle,
  type Request,
  replyHeaderBytes,
  simpleReplyMagic,
} from "../../src/nbd/wire-transmission.ts";
import { ManualTimers } from "./manual-timers.ts";
import { type MemoryConnection, MemoryNet, type MemoryNetSettings } from "./memory-net.ts";

export const none: Uint8Array = new Uint8Array(0);
export const address = { kind: "unix", path: "nbd.sock" } as const;

export interface ServedOptions {
  net?: MemoryNetSettings;
  server?: Omit<NbdServerSettings, "addresses">;
  log?: Log;
  budget?: ByteBudget;
}

/** A server of these devices on a network of its own, with time that stands still. */
export async function serve(
  devices: Record<string, BlockDevice>,
  options: ServedOptions = {},
): Promise<Served> {
  const net = new MemoryNet(options.net);
  const timers = new ManualTimers();
  const entries = Object.entries(devices);
  const exports = new StaticExports(
    new Map(entries.map(([name, device]) => [name, { device, description: `about ${name}` }])),
  );
  const server = await createNbdServer(
    { addresses: [address], ...options.server },
    { net, timers, log: options.log ?? silentLog, exports, budget: options.budget },
  );
  const stop = async () => {
    const closed = server.close();
    await settle();
    timers.advance(3_600_000); // clients that do not leave are cut off
    await closed;
  };
  return { net, timers, exports, server, connect: () => RawClient.connect(net), stop };
}

export interface Served {
  net: MemoryNet;
  timers: ManualTimers;
  exports: StaticExports;
  server: NbdServer;
  connect(): Promise<RawClient>;
  /** Closes the server, whoever is connected. Requests that the device holds are waited for. */
  stop(): Promise<void>;
}

export interface OptionReply {
  type: number;
  data: Uint8Array;
}

export interface Reply extends ChunkHeader {
  payload: Uint8Array;
}

/** A client that says what a test tells it to, right or wrong. */
export class RawClient {
  readonly channel: Channel;
  readonly connection: MemoryConnection;
  style: HeaderStyle = "simple";
  /** How many chunks the server's words came in. */
  chunksReceived = 0;

  constructor(connection: MemoryConnection) {
    this.connection = connection;
    this.channel = new Channel(connection);
    const { queue } = this.channel;
    const push = queue.push.bind(queue);
    queue.push = (chunk) => {
      this.chunksReceived++;
      push(chunk);
    };
  }

  static async connect(net: MemoryNet): Promise<RawClient> {
    return new RawClient(await net.connect(address));
  }

  /** Takes the greeting and sends client flags: fixed newstyle and no zeroes, unless told. */
  async greet(flags = 3): Promise<Uint8Array> {
    const greeting = await this.channel.take(greetingBytes);
    this.channel.send(new Uint8Array([0, 0, 0, flags]));
    return greeting;
  }

  /** Sends an option and collects its replies up to the last. */
  async option(number: number, data: Uint8Array = none): Promise<OptionReply[]> {
    this.channel.send(encodeOption(number, data));
    return this.optionReplies(number);
  }

  async optionReplies(number: number): Promise<OptionReply[]> {
    const replies: OptionReply[] = [];
    for (;;) {
      const header = decodeOptionReplyHeader(await this.channel.take(optionReplyHeaderBytes));
      assert.equal(header.option, number);
      replies.push({ type: header.type, data: await this.channel.take(header.length) });
      if (header.type === optionReply.ack || isErrorReply(header.type)) return replies;
    }
  }

  /** The type of the last reply to an option. */
  async outcome(number: number, data: Uint8Array = none): Promise<number | undefined> {
    return (await this.option(number, data)).at(-1)?.type;
  }

  /** The handshake in one go. */
  async go(exportName: string, style: HeaderStyle = "simple", contexts: string[] = []) {
    await this.greet();
    this.style = style;
    const ack = optionReply.ack;
    if (style === "structured") assert.equal(await this.outcome(option.structuredReply), ack);
    if (style === "extended") assert.equal(await this.outcome(option.extendedHeaders), ack);
    if (contexts.length > 0) {
      const request = encodeMetaContextRequest({ name: exportName, queries: contexts });
      assert.equal(await this.outcome(option.setMetaContext, request), ack);
    }
    const info = encodeInfoRequest({ name: exportName, wanted: [] });
    assert.equal(await this.outcome(option.go, info), ack);
    return this;
  }

  send(request: Partial<Request> & { command: number }, payload: Uint8Array = none): void {
    this.connection.write([this.request(request, payload)]); // whether there is room or not
  }

  request(request: Partial<Request> & { command: number }, payload: Uint8Array = none): Uint8Array {
    const extended = this.style === "extended";
    const isWrite = request.command === command.write;
    const message = {
      flags: extended && isWrite ? commandFlag.payloadLength : 0,
      cookieHigh: -1,
      cookieLow: 0,
      offset: 0,
      length: payload.length,
      ...request,
    };
    return Buffer.concat([encodeRequest(message, extended), payload]);
  }

  /** The next reply or chunk. `dataBytes` is what follows a simple reply without an error. */
  async reply(dataBytes = 0): Promise<Reply> {
    const start = await this.channel.take(4);
    const length = replyHeaderBytes(readU32(start, 0));
    assert.ok(length !== undefined, "not a reply");
    const header: Reply = Object.assign(new ChunkHeader(), { payload: none });
    const rest = await this.channel.take(length - 4);
    decodeReplyHeader(Buffer.concat([start, rest]), 0, header);
    const isSimple = header.magic === simpleReplyMagic;
    const count = isSimple ? (header.error === 0 ? dataBytes : 0) : header.length;
    header.payload = await this.channel.take(count);
    return header;
  }

  /** All chunks up to the last. */
  async replies(dataBytes = 0): Promise<Reply[]> {
    const replies: Reply[] = [];
    do replies.push(await this.reply(dataBytes));
    while (((replies.at(-1) as Reply).flags & chunkFlag.done) === 0);
    return replies;
  }

  /** Sends a request and gives the error of its reply, 0 for success. */
  async errorOf(
    request: Partial<Request> & { command: number },
    payload: Uint8Array = none,
  ): Promise<number> {
    this.send(request, payload);
    const reads = request.command === command.read ? (request.length ?? 0) : 0;
    return errorIn(await this.replies(reads));
  }

  /** Resolves when the server has closed; fails if it says anything more. */
  async closed(): Promise<void> {
    await this.channel.closed;
    assert.equal(this.channel.queue.byteLength, 0, "the server said something before it closed");
  }
}

export function errorIn(replies: readonly Reply[]): number {
  for (const reply of replies) {
    if (reply.error !== 0) return reply.error;
    if (reply.type >= 0x8000) return readU32(reply.payload, 0);
  }
  return 0;
}

/** Lets everything happen that needs no time. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
}
