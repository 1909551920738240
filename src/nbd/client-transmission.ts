import { lengthOf } from "../base/bytes.ts";
import { KelpieError, messageOf } from "../base/errors.ts";
import type { Timers } from "../host/timers.ts";
import type { Channel, Receiver } from "./channel.ts";
import { type AwaitedReply, Coverage, ReplyParser } from "./client-replies.ts";
import { errorOfErrno } from "./errno.ts";
import { closeMs } from "./limits.ts";
import {
  type BlockStatus,
  command,
  commandFlag,
  encodeRequest,
  type HeaderStyle,
} from "./wire-transmission.ts";

/** Servers take 16 (QEMU) to 128 (Kelpie) at once; more would only wait there instead of here. */
const requestsInFlightMax = 128;

export interface Effect {
  flags: number;
  offset: number;
  length: number;
}

interface PendingRequest extends AwaitedReply {
  cookie: number;
  number: number;
  flags: number;
  length: number;
  payload: readonly Uint8Array[];
  resolve(): void;
  reject(error: Error): void;
}

const nothing = new Uint8Array(0);
const noPayload: readonly Uint8Array[] = [];

/** The client's side of the transmission phase: requests out, replies in, any number at once. */
export class ClientTransmission implements Receiver {
  readonly #extended: boolean;
  readonly #components: { channel: Channel; timers: Timers };
  readonly #parser: ReplyParser;
  readonly #inFlight = new Map<number, PendingRequest>();
  /** Requests that wait for room, from #waitingNext on. */
  #waiting: PendingRequest[] = [];
  #waitingNext = 0;
  #nextCookie = 1;
  #blocked = false;
  #flushIsDue = false;
  #outgoing: Uint8Array[] = [];
  #failure: KelpieError | undefined;
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(style: HeaderStyle, components: { channel: Channel; timers: Timers }) {
    this.#extended = style === "extended";
    this.#components = components;
    this.#parser = new ReplyParser(components.channel.queue, style, {
      find: (high, low) => (high === 0 ? this.#inFlight.get(low) : undefined),
      finished: (awaited, low) => this.#finished(awaited as PendingRequest, low),
    });
  }

  read(target: Uint8Array, offset: number): Promise<void> {
    const request = { flags: 0, offset, length: target.length };
    return this.#begin(pendingOf("read", command.read, request, { target }));
  }

  write(payload: readonly Uint8Array[], { flags, offset }: Omit<Effect, "length">): Promise<void> {
    const withLength = this.#extended ? flags | commandFlag.payloadLength : flags;
    const request = { flags: withLength, offset, length: lengthOf(payload) };
    return this.#begin(pendingOf("other", command.write, request, { payload }));
  }

  send(number: number, effect: Effect): Promise<void> {
    return this.#begin(pendingOf("other", number, effect));
  }

  async blockStatus(effect: Effect): Promise<BlockStatus[]> {
    const pending = pendingOf("status", command.blockStatus, effect);
    await this.#begin(pending);
    return pending.status;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  data(): void {
    try {
      this.#parser.parse();
    } catch (error) {
      // A server that breaks the protocol cannot be followed any further.
      this.#fail(new KelpieError("io", messageOf(error), { cause: error }));
      this.#components.channel.connection.destroy();
    }
    this.#pump();
  }

  drain(): void {
    this.#blocked = false;
    this.#pump();
  }

  closed(error: Error | undefined): void {
    this.#fail(
      new KelpieError("io", "the connection to the NBD server was lost", { cause: error }),
    );
  }

  async #close(): Promise<void> {
    const { channel, timers } = this.#components;
    const closing = new KelpieError("closed", "the NBD connection is closed");
    if (this.#failure === undefined) {
      this.#failure = closing; // nothing new from here on
      if (this.#inFlight.size + this.#waiting.length > 0) {
        await new Promise<void>((resolve) => {
          this.#idle = resolve;
        });
      }
      const bye = { command: command.disconnect, flags: 0, offset: 0, length: 0 };
      const message = encodeRequest({ ...bye, cookieHigh: 0, cookieLow: 0 }, this.#extended);
      channel.send(message);
      channel.connection.end();
    }
    const linger = timers.after(closeMs, () => channel.connection.destroy());
    await channel.closed;
    linger.cancel();
  }

  #begin(pending: PendingRequest): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      pending.resolve = resolve;
      pending.reject = reject;
      this.#waiting.push(pending);
      this.#pump();
    });
  }

  #pump(): void {
    while (
      this.#waitingNext < this.#waiting.length &&
      this.#inFlight.size < requestsInFlightMax &&
      !this.#blocked
    ) {
      this.#submit(this.#waiting[this.#waitingNext] as PendingRequest);
      this.#waitingNext++;
    }
    if (this.#waitingNext === this.#waiting.length || this.#waitingNext > 1024) {
      this.#waiting.splice(0, this.#waitingNext);
      this.#waitingNext = 0;
    }
  }

  #submit(pending: PendingRequest): void {
    const cookie = this.#takeCookie();
    pending.cookie = cookie;
    this.#inFlight.set(cookie, pending);
    const { number, flags, offset, length } = pending;
    const message = { command: number, flags, cookieHigh: 0, cookieLow: cookie, offset, length };
    this.#outgoing.push(encodeRequest(message, this.#extended), ...pending.payload);
    if (this.#flushIsDue) return;
    this.#flushIsDue = true;
    queueMicrotask(() => this.#flush()); // requests made in one go leave in one write
  }

  #flush(): void {
    this.#flushIsDue = false;
    const outgoing = this.#outgoing;
    this.#outgoing = [];
    if (outgoing.length === 0) return;
    if (!this.#components.channel.connection.write(outgoing)) this.#blocked = true;
  }

  /** Positive and 31 bits, so that it comes back as the same number. */
  #takeCookie(): number {
    let cookie = this.#nextCookie;
    while (this.#inFlight.has(cookie)) cookie = (cookie % 0x7fffffff) + 1;
    this.#nextCookie = (cookie % 0x7fffffff) + 1;
    return cookie;
  }

  #finished(pending: PendingRequest, cookie: number): void {
    this.#inFlight.delete(cookie);
    if (pending.error === undefined) {
      pending.resolve();
    } else {
      const { error, message } = pending.error;
      const text = message === "" ? `error ${error}` : message;
      pending.reject(errorOfErrno(error, `the NBD server answered: ${text}`));
    }
    if (this.#inFlight.size === 0 && this.#waitingNext >= this.#waiting.length) this.#idle?.();
  }

  #fail(failure: KelpieError): void {
    this.#failure ??= failure;
    const lost = [...this.#inFlight.values(), ...this.#waiting.slice(this.#waitingNext)];
    this.#inFlight.clear();
    this.#waiting = [];
    this.#waitingNext = 0;
    for (const pending of lost) pending.reject(failure);
    this.#idle?.();
  }
}

function pendingOf(
  kind: AwaitedReply["command"],
  number: number,
  effect: Effect,
  data: { target?: Uint8Array; payload?: readonly Uint8Array[] } = {},
): PendingRequest {
  return {
    command: kind,
    number,
    cookie: 0,
    flags: effect.flags,
    offset: effect.offset,
    length: effect.length,
    target: data.target ?? nothing,
    payload: data.payload ?? noPayload,
    covered: new Coverage(),
    status: [],
    error: undefined,
    resolve() {},
    reject() {},
  };
}
