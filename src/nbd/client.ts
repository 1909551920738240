import { assert } from "../base/assert.ts";
import { lengthOf } from "../base/bytes.ts";
import { KelpieError, messageOf } from "../base/errors.ts";
import type {
  BlockDevice,
  Extent,
  ExtentQuery,
  WriteOptions,
  ZeroOptions,
} from "../block/block-device.ts";
import { ExtentList } from "../block/extent-list.ts";
import type { Address, Net } from "../host/net.ts";
import type { Timers } from "../host/timers.ts";
import { Channel } from "./channel.ts";
import {
  type ClientTls,
  listAsClient,
  negotiateAsClient,
  type ServerTerms,
} from "./client-handshake.ts";
import { ClientTransmission } from "./client-transmission.ts";
import {
  allocationContext,
  contextOf,
  depthContext,
  dirtyBitmapPrefix,
  valueOfFlags,
} from "./contexts.ts";
import { handshakeMs, payloadBytesMax } from "./limits.ts";
import { type ListedExport, transmissionFlag } from "./wire-handshake.ts";
import { command, commandFlag, type HeaderStyle } from "./wire-transmission.ts";

export interface NbdClientSettings {
  address: Address;
  /** Empty for the server's default. */
  exportName: string;
  /** The best headers to try; "extended" by default. The server may settle for less. */
  headers?: HeaderStyle;
  /** Points to ask changes since: `extents` with kind "changed" takes these and no others. */
  changesSince?: readonly string[];
  /** In the clear if it is absent; never if it is there. */
  tls?: ClientTls | undefined;
}

export interface NbdClientComponents {
  net: Net;
  timers: Timers;
}

/**
 * An export of an NBD server as a device. Requests of any size: what is too long for the protocol is
 * sent in pieces, in any order. When the connection is lost everything fails with "io".
 */
export interface NbdClient extends BlockDevice {
  /** What was agreed upon. */
  readonly terms: ServerTerms;
  /** Waits for what is in flight, says good-bye, closes. Later requests fail with "closed". */
  close(): Promise<void>;
}

/** Throws what `Net.connect` throws, "not-found" for an export the server does not have, "io". */
export async function connectNbd(
  settings: NbdClientSettings,
  components: NbdClientComponents,
): Promise<NbdClient> {
  const { exportName, headers = "extended", changesSince = [], tls } = settings;
  const bitmaps = changesSince.map((base) => dirtyBitmapPrefix + base);
  const contexts = [allocationContext, depthContext, ...bitmaps];
  return withChannel(settings.address, components, async (channel) => {
    const terms = await negotiateAsClient(channel, { exportName, headers, contexts, tls });
    const transmission = new ClientTransmission(terms.style, {
      channel,
      timers: components.timers,
    });
    channel.handOver(transmission);
    return new Client(terms, transmission);
  });
}

/** The exports that a server lists. */
export async function listNbdExports(
  address: Address,
  components: NbdClientComponents & { tls?: ClientTls | undefined },
): Promise<ListedExport[]> {
  return withChannel(address, components, async (channel) => {
    const listed = await listAsClient(channel, components.tls);
    channel.connection.end();
    await channel.closed;
    return listed;
  });
}

/** A server that does not answer the handshake in time is as good as none. */
async function withChannel<T>(
  address: Address,
  { net, timers }: NbdClientComponents,
  body: (channel: Channel) => Promise<T>,
): Promise<T> {
  const channel = new Channel(await net.connect(address));
  const limit = timers.after(handshakeMs, () => channel.connection.destroy());
  try {
    return await body(channel);
  } catch (error) {
    channel.connection.destroy();
    const isOurs = error instanceof KelpieError && error.code !== "closed";
    if (isOurs) throw error;
    throw new KelpieError("io", `NBD handshake: ${messageOf(error)}`, { cause: error });
  } finally {
    limit.cancel();
  }
}

/** Without extended headers the length of a request has 32 bits; a multiple of every block size. */
const plainEffectBytesMax = 2 ** 32 - 2 ** 20;

class Client implements NbdClient {
  readonly terms: ServerTerms;
  readonly #transmission: ClientTransmission;
  readonly #pieceBytesMax: number;
  readonly #effectBytesMax: number;

  constructor(terms: ServerTerms, transmission: ClientTransmission) {
    this.terms = terms;
    this.#transmission = transmission;
    const advertised = terms.blockSizes?.payloadBytesMax ?? payloadBytesMax;
    this.#pieceBytesMax = Math.max(4096, Math.min(advertised, payloadBytesMax));
    this.#effectBytesMax = terms.style === "extended" ? terms.sizeBytes : plainEffectBytesMax;
  }

  get sizeBytes(): number {
    return this.terms.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#offers(transmissionFlag.readOnly);
  }

  read(target: Uint8Array, offset: number): Promise<void> {
    return this.#inPieces(target.length, this.#pieceBytesMax, (start, end) =>
      this.#transmission.read(target.subarray(start, end), offset + start),
    );
  }

  async write(
    chunks: readonly Uint8Array[],
    offset: number,
    options?: WriteOptions,
  ): Promise<void> {
    const { flags, flushAfter } = this.#fua(options);
    await this.#inPieces(lengthOf(chunks), this.#pieceBytesMax, (start, end) => {
      const payload = sliceOf(chunks, start, end);
      return this.#transmission.write(payload, { flags, offset: offset + start });
    });
    if (flushAfter) await this.flush();
  }

  async zero(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    const fast = options?.fast === true;
    if (!this.#offers(transmissionFlag.sendWriteZeroes)) {
      if (fast) throw new KelpieError("unsupported", "the NBD server has no fast zero");
      await this.#writeZeros(offset, length, options);
      return;
    }
    if (fast && !this.#offers(transmissionFlag.sendFastZero)) {
      throw new KelpieError("unsupported", "the NBD server has no fast zero");
    }
    const fua = this.#fua(options);
    let flags = fua.flags;
    if (options?.keepAllocated === true) flags |= commandFlag.noHole;
    if (fast) flags |= commandFlag.fastZero;
    await this.#effect(command.writeZeroes, { flags, offset, length });
    if (fua.flushAfter) await this.flush();
  }

  async trim(offset: number, length: number, options?: WriteOptions): Promise<void> {
    if (!this.#offers(transmissionFlag.sendTrim)) return; // it is a hint
    const { flags, flushAfter } = this.#fua(options);
    await this.#effect(command.trim, { flags, offset, length });
    if (flushAfter) await this.flush();
  }

  async flush(): Promise<void> {
    if (!this.#offers(transmissionFlag.sendFlush)) return; // then the server has no cache
    await this.#transmission.send(command.flush, { flags: 0, offset: 0, length: 0 });
  }

  async cache(offset: number, length: number): Promise<void> {
    if (!this.#offers(transmissionFlag.sendCache)) return; // it is a hint
    await this.#effect(command.cache, { flags: 0, offset, length });
  }

  async extents(query: ExtentQuery): Promise<Extent[]> {
    const name = contextOf(query);
    const context = this.terms.contexts.find((candidate) => candidate.name === name);
    if (context === undefined) return this.#withoutContext(query);
    const length = Math.min(query.length, this.#effectBytesMax);
    const flags = query.extentsMax === 1 ? commandFlag.requestOne : 0;
    const statuses = await this.#transmission.blockStatus({ flags, offset: query.offset, length });
    const ids = this.terms.contexts.map(({ id }) => id);
    const unknown = statuses.some(({ contextId }) => !ids.includes(contextId));
    const status = statuses.find(({ contextId }) => contextId === context.id);
    if (unknown || status === undefined || statuses.length > ids.length) {
      throw new KelpieError("io", "the NBD server answered for other contexts than agreed upon");
    }
    const list = new ExtentList(query.offset, query.offset + length, query.extentsMax);
    for (const { lengthBytes, value } of status.extents) {
      list.upTo(list.position + lengthBytes, valueOfFlags(query, value));
    }
    return list.extents;
  }

  async changeBases(): Promise<string[]> {
    return [...this.terms.changeBases];
  }

  close(): Promise<void> {
    return this.#transmission.close();
  }

  #offers(flag: number): boolean {
    return (this.terms.transmissionFlags & flag) !== 0;
  }

  /** Without FUA a flush does it, only slower. */
  #fua(options: WriteOptions | undefined): { flags: number; flushAfter: boolean } {
    if (options?.fua !== true) return { flags: 0, flushAfter: false };
    const offered = this.#offers(transmissionFlag.sendFua);
    return { flags: offered ? commandFlag.fua : 0, flushAfter: !offered };
  }

  #withoutContext(query: ExtentQuery): Extent[] {
    if (query.kind === "changed") {
      throw new KelpieError("not-found", `changes since ${query.since} were not agreed upon`);
    }
    // Data everywhere, in the first layer, is always true enough.
    return [{ lengthBytes: query.length, value: query.kind === "allocation" ? 0 : 1 }];
  }

  async #writeZeros(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    const zeros = new Uint8Array(Math.min(length, this.#pieceBytesMax));
    for (let done = 0; done < length; ) {
      const count = Math.min(zeros.length, length - done);
      await this.write([zeros.subarray(0, count)], offset + done, options ?? {});
      done += count;
    }
  }

  #effect(
    number: number,
    { flags, offset, length }: { flags: number; offset: number; length: number },
  ): Promise<void> {
    return this.#inPieces(length, this.#effectBytesMax, (start, end) =>
      this.#transmission.send(number, { flags, offset: offset + start, length: end - start }),
    );
  }

  /** All pieces are waited for: when a request has failed none of it is under way any more. */
  async #inPieces(
    length: number,
    pieceMax: number,
    send: (start: number, end: number) => Promise<void>,
  ): Promise<void> {
    if (length <= pieceMax) {
      if (length > 0) await send(0, length);
      return;
    }
    const pieces: Promise<void>[] = [];
    for (let start = 0; start < length; start += pieceMax) {
      pieces.push(send(start, Math.min(start + pieceMax, length)));
    }
    for (const outcome of await Promise.allSettled(pieces)) {
      if (outcome.status === "rejected") throw outcome.reason;
    }
  }
}

function sliceOf(chunks: readonly Uint8Array[], start: number, end: number): Uint8Array[] {
  const slices: Uint8Array[] = [];
  let position = 0;
  for (const chunk of chunks) {
    const from = Math.max(start - position, 0);
    const to = Math.min(end - position, chunk.length);
    if (from < to) slices.push(chunk.subarray(from, to));
    position += chunk.length;
  }
  assert(end <= position, "a slice past the end");
  return slices;
}
