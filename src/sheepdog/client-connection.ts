import { ByteQueue } from "../base/byte-queue.ts";
import { KelpieError } from "../base/errors.ts";
import type { Connection } from "../host/net.ts";
import { bytesInFlightMax, requestsInFlightMax } from "./client-limits.ts";
import {
  internalOpcodesFrom,
  internalProtocolVersion,
  opcode as opcodes,
  requestFlag,
} from "./wire-opcodes.ts";
import type { RequestPrefix } from "./wire-request.ts";
import { decodeResponsePrefix, type ResponsePrefix, responseBytes } from "./wire-response.ts";

/** A request to be sent, perhaps more than once. */
export interface Call {
  opcode: number;
  /** Besides "a payload follows", which is added. */
  flags?: number;
  /** With the fields of the opcode. */
  encode(prefix: RequestPrefix): Uint8Array;
  /** Undefined: none. A list without bytes is a payload of no length. */
  payload?: readonly Uint8Array[];
  /** Asked before it is sent, again too: what it fails with instead. */
  refusal?: (() => KelpieError | undefined) | undefined;
  /** Takes the payload of the answer, which may be shorter. */
  target?: Uint8Array;
}

export interface Answer {
  result: number;
  epoch: number;
  /** The whole header, for the fields of the opcode. */
  header: Uint8Array;
  /** How much of the target was filled. */
  receivedBytes: number;
}

export interface PendingCall {
  readonly call: Call;
  answered(answer: Answer): void;
}

export interface ConnectionEvents {
  /** There is room for more requests. */
  room(): void;
  /** Last of all. */
  lost(unanswered: PendingCall[], reason: LossReason): void;
}

export interface LossReason {
  error: unknown;
  /** The request in whose answer the server broke the protocol. */
  violation: PendingCall | undefined;
  /** Whether anything was answered while the connection lasted. */
  answered: boolean;
}

const nothing = new Uint8Array(0);

/** One connection: requests out, answers in, in any order, matched by id. */
export class SheepConnection {
  readonly #connection: Connection;
  readonly #events: ConnectionEvents;
  readonly #queue: ByteQueue;
  readonly #inFlight = new Map<number, PendingCall>();
  readonly #prefix: ResponsePrefix = { opcode: 0, epoch: 0, id: 0, dataLength: 0, result: 0 };
  /** The answer whose payload is arriving. */
  #arriving: { pending: PendingCall; answer: Answer; target: Uint8Array } | undefined;
  #received = 0;
  #bytesInFlight = 0;
  #nextId = 1;
  #blocked = false;
  #outgoing: Uint8Array[] = [];
  #flushIsDue = false;
  #violation: { error: KelpieError; pending: PendingCall | undefined } | undefined;
  #closed = false;
  #answered = false;

  constructor(connection: Connection, events: ConnectionEvents) {
    this.#connection = connection;
    this.#events = events;
    this.#queue = new ByteQueue((chunk, count) => connection.release(chunk, count));
    connection.start({
      data: (chunk) => {
        this.#received++;
        this.#queue.push(chunk);
        this.#receive();
      },
      drain: () => {
        this.#blocked = false;
        this.#events.room();
      },
      close: (error) => this.#lost(error),
    });
  }

  get hasRoom(): boolean {
    return (
      !this.#closed &&
      !this.#blocked &&
      this.#violation === undefined &&
      this.#inFlight.size < requestsInFlightMax &&
      this.#bytesInFlight < bytesInFlightMax
    );
  }

  get idle(): boolean {
    return this.#inFlight.size === 0;
  }

  /** Grows with whatever comes from the server. */
  get received(): number {
    return this.#received;
  }

  /** Only while there is room. */
  send(pending: PendingCall): void {
    const { opcode, flags = 0, encode, payload, target = nothing } = pending.call;
    const id = this.#takeId();
    this.#inFlight.set(id, pending);
    this.#bytesInFlight += sizeOf(pending.call);
    this.#outgoing.push(
      encode({
        protocolVersion: versionFor(opcode),
        opcode,
        flags: payload === undefined ? flags : flags | requestFlag.write,
        epoch: 0,
        id,
        dataLength: payload === undefined ? target.length : lengthOfPayload(payload),
      }),
    );
    if (payload !== undefined) this.#outgoing.push(...payload);
    if (this.#flushIsDue) return;
    this.#flushIsDue = true;
    queueMicrotask(() => this.#flush()); // requests made in one go leave in one write
  }

  destroy(): void {
    this.#connection.destroy();
  }

  #flush(): void {
    this.#flushIsDue = false;
    const outgoing = this.#outgoing;
    this.#outgoing = [];
    if (this.#closed || outgoing.length === 0) return;
    if (!this.#connection.write(outgoing)) this.#blocked = true;
  }

  #takeId(): number {
    let id = this.#nextId;
    while (this.#inFlight.has(id)) id = (id % 0x7fffffff) + 1;
    this.#nextId = (id % 0x7fffffff) + 1;
    return id;
  }

  #receive(): void {
    try {
      while (this.#violation === undefined && this.#receiveOne()) {
        // As many as have arrived.
      }
    } catch (error) {
      if (!(error instanceof KelpieError)) throw error;
      // A server that breaks the protocol cannot be followed any further.
      this.#violation = { error, pending: this.#arriving?.pending };
      this.#connection.destroy();
    }
  }

  #receiveOne(): boolean {
    const arriving = this.#arriving ?? this.#receiveHeader();
    if (arriving === undefined) return false;
    this.#arriving = arriving;
    const { answer, target, pending } = arriving;
    answer.receivedBytes += this.#queue.copyInto(target.subarray(answer.receivedBytes));
    if (answer.receivedBytes < target.length) return false;
    this.#arriving = undefined;
    this.#answered = true;
    pending.answered(answer);
    this.#events.room();
    return true;
  }

  #receiveHeader() {
    if (!this.#queue.gather(responseBytes)) return undefined;
    const header = this.#queue.head.slice(
      this.#queue.headOffset,
      this.#queue.headOffset + responseBytes,
    );
    this.#queue.skip(responseBytes);
    decodeResponsePrefix(header, 0, this.#prefix);
    const { id, dataLength, result, epoch, opcode } = this.#prefix;
    const pending = this.#inFlight.get(id);
    if (pending === undefined) throw broken("an answer to no request");
    const { target = nothing } = pending.call;
    this.#arriving = { pending, answer: { result, epoch, header, receivedBytes: 0 }, target };
    if (opcode !== pending.call.opcode) throw broken("an answer with another opcode");
    if (dataLength > target.length) throw broken("an answer longer than was asked for");
    this.#inFlight.delete(id);
    this.#bytesInFlight -= sizeOf(pending.call);
    return { ...this.#arriving, target: target.subarray(0, dataLength) };
  }

  #lost(error: Error | undefined): void {
    this.#closed = true;
    const unanswered = [...this.#inFlight.values()];
    const arriving = this.#arriving?.pending;
    if (arriving !== undefined && !unanswered.includes(arriving)) unanswered.unshift(arriving);
    this.#inFlight.clear();
    this.#events.lost(unanswered, {
      error: this.#violation?.error ?? error,
      violation: this.#violation?.pending,
      answered: this.#answered,
    });
  }
}

/** As QEMU has them, which works with every server there was: 2 let some send short answers to reads. */
function versionFor(opcode: number): number {
  if (opcode >= internalOpcodesFrom) return internalProtocolVersion;
  return versionOneOpcodes.has(opcode) ? 1 : 0;
}

const versionOneOpcodes: ReadonlySet<number> = new Set([
  opcodes.lockVdi,
  opcodes.getVdiInfo,
  opcodes.getClusterDefault,
]);

function lengthOfPayload(payload: readonly Uint8Array[]): number {
  let length = 0;
  for (const chunk of payload) length += chunk.length;
  return length;
}

function sizeOf(call: Call): number {
  return lengthOfPayload(call.payload ?? []) + (call.target?.length ?? 0);
}

function broken(what: string): KelpieError {
  return new KelpieError("io", `the Sheepdog server breaks the protocol: ${what}`);
}
