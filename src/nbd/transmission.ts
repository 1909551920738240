import type { BufferPool } from "../base/buffer-pool.ts";
import { type Completion, isPending } from "../base/completion.ts";
import { isKelpieError, messageOf } from "../base/errors.ts";
import type { BlockDevice } from "../block/block-device.ts";
import type { Log } from "../host/log.ts";
import type { Timer, Timers } from "../host/timers.ts";
import { describeBlocks, type ServedContext, statusCostBytes } from "./block-status.ts";
import type { Channel, Receiver } from "./channel.ts";
import { errno, errnoOf } from "./errno.ts";
import { payloadBytesDiscardMax, replyBatchBytes } from "./limits.ts";
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

export interface TransmissionSettings {
  style: HeaderStyle;
  contexts: readonly ServedContext[];
  requestsInFlightMax: number;
  bytesInFlightMax: number;
  /** How long a peer may take to fetch its last replies and close. */
  closeMs: number;
}

export interface TransmissionComponents {
  channel: Channel;
  /** Guarded: ranges and rights are not checked here. */
  device: BlockDevice;
  timers: Timers;
  log: Log;
  /** Shared by the server's connections. */
  pool: BufferPool;
}

/** A request that the device has not completed yet. */
interface PendingRequest extends ReplyAddress {
  /** Counted against bytesInFlightMax. */
  costBytes: number;
  /** The reply that a read fills in. */
  reply: Uint8Array | undefined;
  /** The payload of a write, to be released when the device is done with it. */
  payload: readonly Uint8Array[] | undefined;
  /** The payloads that a block status request gathers. */
  status: Uint8Array[] | undefined;
}

interface PendingGroup {
  completion: Promise<void>;
  requests: PendingRequest[];
}

const withFua = { fua: true } as const;
const noPayload: readonly Uint8Array[] = [];

/**
 * The server's side of the transmission phase on one connection.
 *
 * All requests of an incoming chunk are handed to the device in one go, and the replies of those
 * that complete at once leave in one write. The rest is answered in the order in which the device
 * completes it, again gathered: those that complete together leave together. A flush is handed to
 * the device in its turn, so it covers every write that was answered before it came.
 *
 * It stops reading while too much is in flight or the peer does not take its replies.
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
  #settleDone: () => void = () => {};
  /** Finishing: no more requests are taken. Ended: nor are there replies to come. */
  #phase: "open" | "finishing" | "ended" | "closed" = "open";
  #shuttingDown = false;
  #haveHeader = false;
  #payloadBytes = 0;
  /** The error number for a request that no device gets to see; its payload is skipped. */
  #refusal = 0;
  /** The requests given to the device last, if they wait. */
  #newest: PendingGroup | undefined;
  #inFlight = 0;
  #inFlightBytes = 0;
  /** The connection has said that it has enough. */
  #blocked = false;
  #paused = false;
  #pumping = false;
  #pumpIsDue = false;
  #requests = 0;
  #linger: Timer | undefined;

  constructor(settings: TransmissionSettings, components: TransmissionComponents) {
    this.#settings = settings;
    this.#components = components;
    const extended = settings.style === "extended";
    this.#headerBytes = extended ? extendedRequestBytes : requestBytes;
    this.#magic = extended ? extendedRequestMagic : requestMagic;
    this.#replies = new ReplyWriter(settings.style, components.pool);
    this.done = new Promise((resolve) => {
      this.#settleDone = resolve;
    });
  }

  get requests(): number {
    return this.#requests;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** From now on requests get ESHUTDOWN; when what is in flight is answered, it ends. */
  shutdown(): void {
    this.#shuttingDown = true;
    this.#pump();
  }

  data(): void {
    this.#pump();
  }

  drain(): void {
    this.#blocked = false;
    this.#pump();
  }

  closed(): void {
    this.#phase = "closed";
    this.#linger?.cancel();
    this.#settleIfDone();
  }

  #pump(): void {
    if (this.#pumping) return; // a write may drain at once and call back
    this.#pumping = true;
    while (!this.#isStalled() && this.#step()) {
      if (this.#replies.byteLength >= replyBatchBytes) this.#send();
    }
    this.#send();
    this.#pumping = false;
    this.#endIfFinished();
    this.#pauseOrResume();
  }

  #isStalled(): boolean {
    return (
      this.#blocked ||
      this.#inFlight >= this.#settings.requestsInFlightMax ||
      this.#inFlightBytes >= this.#settings.bytesInFlightMax ||
      this.#phase !== "open"
    );
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
      this.#phase = "finishing";
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
      this.#fail(request, error); // the world's failures are the client's to know
      this.#release(payload);
      return;
    }
    if (isPending(completion)) {
      const pending = pendingOf(request);
      pending.payload = payload;
      this.#track(completion, pending);
      return;
    }
    this.#replies.success(request);
    this.#release(payload);
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
      this.#fail(request, error); // as above
      return;
    }
    if (!isPending(completion)) {
      replies.finishRead(request, request.length);
      return;
    }
    const pending = pendingOf(request);
    pending.reply = replies.detachRead();
    this.#track(completion, pending);
  }

  #blockStatus(request: RequestHeader): void {
    const { style, contexts } = this.#settings;
    const pending = pendingOf(request);
    pending.status = [];
    pending.costBytes = contexts.length * statusCostBytes;
    const query = {
      offset: request.offset,
      length: request.length,
      onlyOne: (request.flags & commandFlag.requestOne) !== 0,
      extended: style === "extended",
    };
    const { device } = this.#components;
    this.#track(describeBlocks(query, { device, contexts, into: pending.status }), pending);
  }

  /** Requests that one promise answers, as writes that leave in one append, share one reaction. */
  #track(completion: Promise<void>, pending: PendingRequest): void {
    this.#inFlight++;
    this.#inFlightBytes += pending.costBytes;
    if (this.#newest?.completion === completion) {
      this.#newest.requests.push(pending);
      return;
    }
    const group = { completion, requests: [pending] };
    this.#newest = group;
    completion.then(
      () => this.#finish(group, (request) => this.#succeed(request)),
      (error: unknown) => this.#finish(group, (request) => this.#fail(request, error)),
    );
  }

  #finish(group: PendingGroup, answer: (request: PendingRequest) => void): void {
    if (this.#newest === group) this.#newest = undefined;
    for (const request of group.requests) {
      if (this.#phase !== "closed") answer(request);
      this.#settle(request);
    }
  }

  #succeed(request: PendingRequest): void {
    if (request.reply !== undefined) this.#replies.appendRead(request, request.reply);
    else if (request.status !== undefined) this.#replies.status(request, request.status);
    else this.#replies.success(request);
  }

  #release(payload: readonly Uint8Array[]): void {
    const { connection } = this.#components.channel;
    for (const chunk of payload) connection.release(chunk, chunk.length);
  }

  #settle(pending: PendingRequest): void {
    if (pending.payload !== undefined) this.#release(pending.payload);
    this.#inFlight--;
    this.#inFlightBytes -= pending.costBytes;
    if (this.#phase === "closed") {
      this.#settleIfDone();
    } else if (!this.#pumpIsDue) {
      this.#pumpIsDue = true;
      // After everything that completes in the same moment, so that it leaves in one write.
      queueMicrotask(() => {
        this.#pumpIsDue = false;
        this.#pump();
      });
    }
  }

  #fail(request: ReplyAddress, error: unknown): void {
    if (!isKelpieError(error)) {
      this.#components.log.error("nbd request failed unexpectedly", { error: messageOf(error) });
    }
    this.#replies.failure(request, errnoOf(error), messageOf(error));
  }

  #send(): void {
    if (this.#replies.byteLength === 0) return;
    const chunks = this.#replies.takeAll();
    if (this.#phase === "ended" || this.#phase === "closed") return; // nobody is there any more
    const { connection } = this.#components.channel;
    if (!connection.write(chunks)) this.#blocked = true;
    this.#replies.reuse(connection.queuedBytes);
  }

  #endIfFinished(): void {
    if (this.#phase === "open" && !this.#shuttingDown) return;
    if (this.#phase === "ended" || this.#phase === "closed" || this.#inFlight > 0) return;
    this.#phase = "ended";
    const { channel, timers } = this.#components;
    channel.connection.end();
    // A peer that never reads would keep the connection for ever.
    this.#linger = timers.after(this.#settings.closeMs, () => channel.connection.destroy());
    this.#pauseOrResume();
  }

  #pauseOrResume(): void {
    // At the end incoming bytes are thrown away, so that the peer's own end is seen.
    const pause = this.#isStalled() && this.#phase === "open";
    if (this.#phase !== "open") this.#dropIncoming();
    if (pause === this.#paused) return;
    this.#paused = pause;
    const { connection } = this.#components.channel;
    if (pause) connection.pause();
    else connection.resume();
  }

  #dropIncoming(): void {
    const { queue } = this.#components.channel;
    queue.skip(queue.byteLength);
  }

  #abort(reason: string): void {
    const { channel, log } = this.#components;
    log.warn("nbd connection dropped", { peer: channel.connection.peer, reason });
    this.#send();
    this.#phase = "ended";
    channel.connection.destroy();
  }

  #settleIfDone(): void {
    if (this.#inFlight === 0) this.#settleDone();
  }
}

function pendingOf(request: RequestHeader): PendingRequest {
  const movesData = request.command === command.read || request.command === command.write;
  return {
    cookieHigh: request.cookieHigh,
    cookieLow: request.cookieLow,
    offset: request.offset,
    offsetHigh: request.offsetHigh,
    offsetLow: request.offsetLow,
    costBytes: movesData ? request.length : 0,
    reply: undefined,
    payload: undefined,
    status: undefined,
  };
}

function refusalMessage(refusal: number): string {
  if (refusal === errno.ESHUTDOWN) return "the server is shutting down";
  return refusal === errno.EOVERFLOW ? "too long for one piece" : "not a valid request";
}
