import type { BufferPool } from "../base/buffer-pool.ts";
import { type Completion, isPending } from "../base/completion.ts";
import { isKelpieError, messageOf } from "../base/errors.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { type MeterKind, meterKind, type RequestMeter } from "../block/request-meter.ts";
import {
  type PendingRequest as Pending,
  type PumpSettings,
  RequestPump,
} from "../block/request-pump.ts";
import type { Log } from "../host/log.ts";
import type { Timers } from "../host/timers.ts";
import { describeBlocks, type ServedContext, statusCostBytes } from "./block-status.ts";
import type { Channel, Receiver } from "./channel.ts";
import { errno, errnoOf } from "./errno.ts";
import { payloadBytesDiscardMax } from "./limits.ts";
import { type ReplyAddress, ReplyWriter } from "./reply-writer.ts";
import { refusalOf, zeroOptionsOf } from "./request-rules.ts";
import {
  command,
  commandFlag,
  decodeExtendedRequest,
  decodeRequest,
  extendedRequestBytes,
  extendedRequestMagic,
  type HeaderStyle,
  RequestHeader,
  requestBytes,
  requestMagic,
} from "./wire-transmission.ts";

export interface TransmissionSettings extends PumpSettings {
  style: HeaderStyle;
  contexts: readonly ServedContext[];
}

export interface TransmissionComponents {
  channel: Channel;
  /** Guarded: ranges and rights are not checked here. */
  device: BlockDevice;
  meter?: RequestMeter | undefined;
  timers: Timers;
  log: Log;
  /** Shared by the server's connections. */
  pool: BufferPool;
}

/** A request that the device has not completed yet. */
interface PendingRequest extends ReplyAddress, Pending {
  /** The payloads that a block status request gathers. */
  status: Uint8Array[] | undefined;
}

const withFua = { fua: true } as const;
const noPayload: readonly Uint8Array[] = [];
/** By command. */
const kinds: Partial<Record<number, MeterKind>> = {
  [command.read]: meterKind.read,
  [command.write]: meterKind.write,
  [command.flush]: meterKind.flush,
  [command.trim]: meterKind.trim,
  [command.writeZeroes]: meterKind.zero,
};

/**
 * The server's side of the transmission phase on one connection.
 *
 * A flush is handed to the device in its turn, so it covers every write that was answered before it
 * came. How requests are taken and answered together: see `RequestPump`.
 */
export class Transmission implements Receiver {
  /** Resolves when the connection is closed and the device is left alone. */
  readonly done: Promise<void>;
  readonly #settings: TransmissionSettings;
  readonly #components: TransmissionComponents;
  readonly #replies: ReplyWriter;
  readonly #request = new RequestHeader();
  readonly #headerBytes: number;
  readonly #magic: number;
  #shuttingDown = false;
  #haveHeader = false;
  #payloadBytes = 0;
  /** The error number for a request that no device gets to see; its payload is skipped. */
  #refusal = 0;
  #requests = 0;
  /** When the request that is being begun was taken, by the meter's clock. */
  #beganMs = 0;
  readonly #pump: RequestPump<PendingRequest>;

  constructor(settings: TransmissionSettings, components: TransmissionComponents) {
    this.#settings = settings;
    this.#components = components;
    const extended = settings.style === "extended";
    this.#headerBytes = extended ? extendedRequestBytes : requestBytes;
    this.#magic = extended ? extendedRequestMagic : requestMagic;
    this.#replies = new ReplyWriter(settings.style, components.pool);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.done = promise;
    const { channel, timers } = components;
    const { connection, queue } = channel;
    this.#pump = new RequestPump<PendingRequest>(
      {
        // One look at the clock for each request: one that is done at once ends where the next begins.
        starting: () => {
          this.#beganMs = components.meter?.nowMs() ?? 0;
        },
        step: () => this.#step(),
        succeed: (request) => this.#succeed(request),
        fail: (request, error) => this.#fail(request, error),
        done: resolve,
      },
      settings,
      { connection, queue, replies: this.#replies, timers },
    );
  }

  get requests(): number {
    return this.#requests;
  }

  get inFlight(): number {
    return this.#pump.inFlight;
  }

  /** From now on requests get ESHUTDOWN; when what is in flight is answered, it ends. */
  shutdown(): void {
    this.#shuttingDown = true;
    this.#pump.endWhenIdle();
    this.#pump.pump();
  }

  data(): void {
    this.#pump.pump();
  }

  drain(): void {
    this.#pump.drained();
  }

  closed(): void {
    this.#pump.closed();
  }

  /** Takes one request, or part of one, from the queue. False when there is no more to take. */
  #step(): boolean {
    const { queue } = this.#components.channel;
    if (!this.#haveHeader && !this.#takeHeader()) return false;
    if (this.#refusal !== 0) {
      const some = Math.min(this.#payloadBytes, queue.byteLength);
      queue.skip(some);
      this.#payloadBytes -= some;
      if (this.#payloadBytes > 0) return false;
      this.#haveHeader = false;
      this.#requests++;
      this.#replies.failure(this.#request, this.#refusal, refusalMessage(this.#refusal));
      return true;
    }
    if (queue.byteLength < this.#payloadBytes) return false;
    this.#haveHeader = false;
    this.#requests++;
    this.#execute(this.#request);
    return true;
  }

  #takeHeader(): boolean {
    const { queue } = this.#components.channel;
    if (!queue.gather(this.#headerBytes)) return false;
    const request = this.#request;
    if (this.#magic === requestMagic) decodeRequest(queue.head, queue.headOffset, request);
    else decodeExtendedRequest(queue.head, queue.headOffset, request);
    queue.skip(this.#headerBytes);
    if (request.magic !== this.#magic) {
      this.#abort("a request has the wrong magic number");
      return false;
    }
    if (request.command === command.disconnect) {
      this.#pump.finish();
      return false;
    }
    const hasPayload =
      request.command === command.write ||
      (this.#magic === extendedRequestMagic && (request.flags & commandFlag.payloadLength) !== 0);
    this.#payloadBytes = hasPayload ? request.length : 0;
    if (this.#payloadBytes > payloadBytesDiscardMax) {
      this.#abort("a request has too long a payload");
      return false;
    }
    this.#refusal = refusalOf(request, this.#settings.style, this.#settings.contexts.length);
    if (this.#refusal === 0 && this.#shuttingDown) this.#refusal = errno.ESHUTDOWN;
    this.#haveHeader = true;
    return true;
  }

  #execute(request: RequestHeader): void {
    if (request.command === command.read) {
      this.#read(request);
      return;
    }
    if (request.command === command.blockStatus) {
      this.#blockStatus(request);
      return;
    }
    const isWrite = request.command === command.write;
    const payload = isWrite ? this.#components.channel.queue.take(this.#payloadBytes) : noPayload;
    let completion: Completion<void>;
    try {
      completion = this.#change(request, payload);
    } catch (error) {
      this.#failAtOnce(request, error); // the world's failures are the client's to know
      this.#pump.release(payload);
      return;
    }
    if (isPending(completion)) {
      const pending = this.#pendingOf(request);
      pending.payload = payload;
      this.#pump.track(completion, pending);
      return;
    }
    this.#replies.success(request);
    this.#pump.release(payload);
    this.#doneAtOnce(request);
  }

  #change(request: RequestHeader, payload: readonly Uint8Array[]): Completion<void> {
    const { device } = this.#components;
    const { flags, offset, length } = request;
    const options = (flags & commandFlag.fua) !== 0 ? withFua : undefined;
    switch (request.command) {
      case command.write:
        return device.write(payload, offset, options);
      case command.flush:
        return device.flush();
      case command.trim:
        return device.trim(offset, length, options);
      case command.writeZeroes:
        return device.zero(offset, length, zeroOptionsOf(flags));
      default: // the only one left that refusalOf lets pass
        return device.cache(offset, length);
    }
  }

  #read(request: RequestHeader): void {
    const replies = this.#replies;
    const target = replies.reserveRead(request.length);
    let completion: Completion<void>;
    try {
      completion = this.#components.device.read(target, request.offset);
    } catch (error) {
      replies.cancelRead();
      this.#failAtOnce(request, error); // as above
      return;
    }
    if (!isPending(completion)) {
      replies.finishRead(request, request.length);
      this.#doneAtOnce(request);
      return;
    }
    const pending = this.#pendingOf(request);
    pending.reply = replies.detachRead();
    this.#pump.track(completion, pending);
  }

  #blockStatus(request: RequestHeader): void {
    const { style, contexts } = this.#settings;
    const pending = this.#pendingOf(request);
    pending.status = [];
    pending.costBytes = contexts.length * statusCostBytes;
    const query = {
      offset: request.offset,
      length: request.length,
      onlyOne: (request.flags & commandFlag.requestOne) !== 0,
      extended: style === "extended",
    };
    const { device } = this.#components;
    this.#pump.track(describeBlocks(query, { device, contexts, into: pending.status }), pending);
  }

  #succeed(request: PendingRequest): void {
    if (request.reply !== undefined) this.#replies.appendRead(request, request.reply);
    else if (request.status !== undefined) this.#replies.status(request, request.status);
    else this.#replies.success(request);
  }

  #doneAtOnce(request: RequestHeader): void {
    const { meter } = this.#components;
    if (meter === undefined) return;
    const nowMs = meter.nowMs();
    meter.done(kindOf(request), request.length, nowMs - this.#beganMs);
    this.#beganMs = nowMs;
  }

  #failAtOnce(request: RequestHeader, error: unknown): void {
    this.#fail(request, error);
    const { meter } = this.#components;
    meter?.failed(kindOf(request), meter.nowMs() - this.#beganMs);
  }

  #fail(request: ReplyAddress, error: unknown): void {
    if (!isKelpieError(error)) {
      this.#components.log.error("nbd request failed unexpectedly", { error: messageOf(error) });
    }
    this.#replies.failure(request, errnoOf(error), messageOf(error));
  }

  #pendingOf(request: RequestHeader): PendingRequest {
    const movesData = request.command === command.read || request.command === command.write;
    return {
      cookieHigh: request.cookieHigh,
      cookieLow: request.cookieLow,
      offset: request.offset,
      offsetHigh: request.offsetHigh,
      offsetLow: request.offsetLow,
      meter: this.#components.meter,
      kind: kindOf(request),
      bytes: request.length,
      beganMs: this.#beganMs,
      costBytes: movesData ? request.length : 0,
      reply: undefined,
      payload: undefined,
      status: undefined,
    };
  }

  #abort(reason: string): void {
    const { channel, log } = this.#components;
    log.warn("nbd connection dropped", { peer: channel.connection.peer, reason });
    this.#pump.abort();
  }
}

function kindOf(request: RequestHeader): MeterKind {
  return kinds[request.command] ?? meterKind.other;
}

function refusalMessage(refusal: number): string {
  if (refusal === errno.ESHUTDOWN) return "the server is shutting down";
  return refusal === errno.EOVERFLOW ? "too long for one piece" : "not a valid request";
}
