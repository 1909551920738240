import type { ByteBudget } from "../base/byte-budget.ts";
import type { ByteQueue } from "../base/byte-queue.ts";
import type { Connection } from "../host/net.ts";
import type { Timer, Timers } from "../host/timers.ts";
import { type Measured, tellMeters } from "./request-meter.ts";

export interface PumpSettings {
  requestsInFlightMax: number;
  bytesInFlightMax: number;
  /** Of all connections that share it. When it is used up each may have one request in flight. */
  budget?: ByteBudget | undefined;
  /** How long a peer may take to fetch its last replies and close. */
  closeMs: number;
}

/** A request that is not answered yet. */
export interface PendingRequest extends Measured {
  /** Counted against bytesInFlightMax. */
  costBytes: number;
  /** The reply that a read fills in. */
  reply: Uint8Array | undefined;
  /** The payload of a write, to be released when the disk is done with it. */
  payload: readonly Uint8Array[] | undefined;
}

interface PendingGroup<Request> {
  completion: Promise<void>;
  requests: Request[];
}

/** What the requests and replies of a protocol are. */
export interface PumpProtocol<Request extends PendingRequest> {
  /** Requests are about to be taken. */
  starting?(): void;
  /** Takes one request, or part of one, from the queue. False when there is no more to take. */
  step(): boolean;
  /** Writes the reply to a request that had to wait. */
  succeed(request: Request): void;
  fail(request: Request, error: unknown): void;
  /** Called for each that was tracked, answered or not. */
  settled?(): void;
  /** So many bytes of replies are about to be sent. */
  sending?(count: number): void;
  /** The connection is closed, and nothing is asked for it any more. Last of all. */
  done(): void;
}

export interface PumpComponents {
  connection: Connection;
  queue: ByteQueue;
  replies: {
    readonly byteLength: number;
    takeAll(): Uint8Array[];
    /** See `ReplyBuffer.reuse`. */
    reuse(unsentBytes: number): void;
  };
  timers: Timers;
}

/** Replies that are ready are handed over when they reach this: some 250 reads of 4 KiB. */
const replyBatchBytes = 2 ** 20;

/**
 * Takes requests from a connection and sends their replies, for any protocol.
 *
 * All requests of an incoming chunk are begun in one go, and the replies of those that complete at
 * once leave in one write. The rest is answered in the order in which it completes, again gathered:
 * those that complete together leave together.
 *
 * It stops reading while too much is in flight or the peer does not take its replies.
 */
export class RequestPump<Request extends PendingRequest> {
  readonly #protocol: PumpProtocol<Request>;
  readonly #settings: PumpSettings;
  readonly #components: PumpComponents;
  /** Finishing: no more requests are taken. Ended: nor are there replies to come. */
  #phase: "open" | "finishing" | "ended" | "closed" = "open";
  #endsWhenIdle = false;
  /** The requests begun last, if they wait. */
  #newest: PendingGroup<Request> | undefined;
  #inFlight = 0;
  #inFlightBytes = 0;
  /** The connection has said that it has enough. */
  #blocked = false;
  #paused = false;
  #pumping = false;
  #pumpIsDue = false;
  #linger: Timer | undefined;

  constructor(protocol: PumpProtocol<Request>, settings: PumpSettings, components: PumpComponents) {
    this.#protocol = protocol;
    this.#settings = settings;
    this.#components = components;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Requests are taken. */
  get isOpen(): boolean {
    return this.#phase === "open";
  }

  /** It does not read: it is not the peer who lets us wait. */
  get isPaused(): boolean {
    return this.#paused;
  }

  /** Takes no more requests; when what is in flight is answered, it ends. */
  finish(): void {
    if (this.#phase === "open") this.#phase = "finishing";
  }

  /** Goes on taking requests, and ends as soon as none is in flight. */
  endWhenIdle(): void {
    this.#endsWhenIdle = true;
  }

  /** Drops the connection; replies that are ready are sent. */
  abort(): void {
    this.#send();
    this.#phase = "ended";
    this.#components.connection.destroy();
  }

  drained(): void {
    this.#blocked = false;
    this.pump();
  }

  closed(): void {
    this.#phase = "closed";
    this.#linger?.cancel();
    this.#doneIfIdle();
  }

  /** To be called when more bytes are in the queue. */
  pump(): void {
    if (this.#pumping) return; // a write may drain at once and call back
    const { replies } = this.#components;
    this.#pumping = true;
    this.#protocol.starting?.();
    while (!this.#isStalled() && this.#protocol.step()) {
      if (replies.byteLength >= replyBatchBytes) this.#send();
    }
    this.#send();
    this.#pumping = false;
    this.#endIfFinished();
    this.#pauseOrResume();
  }

  /** Requests that one promise answers, as writes that leave in one append, share one reaction. */
  track(completion: Promise<void>, request: Request): void {
    this.#inFlight++;
    this.#inFlightBytes += request.costBytes;
    this.#settings.budget?.take(request.costBytes);
    if (this.#newest?.completion === completion) {
      this.#newest.requests.push(request);
      return;
    }
    const group = { completion, requests: [request] };
    this.#newest = group;
    completion.then(
      () => {
        tellMeters(group.requests, "done");
        this.#finishGroup(group, (done) => this.#protocol.succeed(done));
      },
      (error: unknown) => {
        tellMeters(group.requests, "failed");
        this.#finishGroup(group, (failed) => this.#protocol.fail(failed, error));
      },
    );
  }

  /** Gives the memory of a payload back to the connection. */
  release(payload: readonly Uint8Array[]): void {
    const { connection } = this.#components;
    for (const chunk of payload) connection.release(chunk, chunk.length);
  }

  #isStalled(): boolean {
    return (
      this.#blocked ||
      this.#inFlight >= this.#settings.requestsInFlightMax ||
      this.#inFlightBytes >= this.#settings.bytesInFlightMax ||
      // With something in flight it is looked at again when that is answered, whoever gives bytes back.
      (this.#inFlightBytes > 0 && this.#settings.budget?.isUsedUp === true) ||
      this.#phase !== "open"
    );
  }

  #finishGroup(group: PendingGroup<Request>, answer: (request: Request) => void): void {
    if (this.#newest === group) this.#newest = undefined;
    for (const request of group.requests) {
      if (this.#phase !== "closed") answer(request);
      this.#settle(request);
    }
  }

  #settle(request: Request): void {
    if (request.payload !== undefined) this.release(request.payload);
    this.#inFlight--;
    this.#inFlightBytes -= request.costBytes;
    this.#settings.budget?.give(request.costBytes);
    this.#protocol.settled?.();
    if (this.#phase === "closed") {
      this.#doneIfIdle();
    } else if (!this.#pumpIsDue) {
      this.#pumpIsDue = true;
      // After everything that completes in the same moment, so that it leaves in one write.
      queueMicrotask(() => {
        this.#pumpIsDue = false;
        this.pump();
      });
    }
  }

  #send(): void {
    const { connection, replies } = this.#components;
    if (replies.byteLength === 0) return;
    this.#protocol.sending?.(replies.byteLength);
    const chunks = replies.takeAll();
    if (this.#phase === "ended" || this.#phase === "closed") return; // nobody is there any more
    if (!connection.write(chunks)) this.#blocked = true;
    replies.reuse(connection.queuedBytes);
  }

  #endIfFinished(): void {
    if (this.#phase === "ended" || this.#phase === "closed" || this.#inFlight > 0) return;
    if (this.#phase === "open" && !this.#endsWhenIdle) return;
    this.#phase = "ended";
    const { connection, timers } = this.#components;
    connection.end();
    // A peer that never reads would keep the connection for ever.
    this.#linger = timers.after(this.#settings.closeMs, () => connection.destroy());
  }

  #pauseOrResume(): void {
    const { connection, queue } = this.#components;
    // At the end incoming bytes are thrown away, so that the peer's own end is seen.
    const pause = this.#isStalled() && this.#phase === "open";
    if (this.#phase !== "open") queue.skip(queue.byteLength);
    if (pause === this.#paused) return;
    this.#paused = pause;
    if (pause) connection.pause();
    else connection.resume();
  }

  #doneIfIdle(): void {
    if (this.#inFlight === 0) this.#protocol.done();
  }
}
