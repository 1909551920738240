import { ByteQueue } from "../base/byte-queue.ts";
import { joinBytes } from "../base/bytes.ts";
import { type Completion, isPending } from "../base/completion.ts";
import { messageOf } from "../base/errors.ts";
import { type MeterKind, meterKind, type RequestMeter } from "../block/request-meter.ts";
import {
  type PendingRequest as Pending,
  type PumpSettings,
  RequestPump,
} from "../block/request-pump.ts";
import type { Connection } from "../host/net.ts";
import type { Timer, Timers } from "../host/timers.ts";
import type { ObjectClient } from "../vdi/objects/objects.ts";
import { isEnding } from "./cluster-operations.ts";
import { callPayloadBytesMax, payloadBytesDiscardMax } from "./limits.ts";
import { changeObject, refusalOf } from "./object-requests.ts";
import type { Answer, Call, Operation, OperationParts } from "./operation.ts";
import { operations } from "./operations.ts";
import { resultOf } from "./refusals.ts";
import type { ReplyWriter } from "./reply-writer.ts";
import { result } from "./results.ts";
import {
  internalOpcodesFrom,
  internalProtocolVersion,
  opcode,
  protocolVersion,
  requestFlag,
} from "./wire-opcodes.ts";
import {
  decodeObjectFields,
  decodeRequestPrefix,
  type ObjectFields,
  type RequestPrefix,
  requestBytes,
} from "./wire-request.ts";

export interface ConnectionSettings extends PumpSettings {
  /** How long a request may be there in part without more of it coming. */
  stalledMs: number;
}

export interface ConnectionComponents extends OperationParts {
  timers: Timers;
  replies: ReplyWriter;
}

/** A request that is not answered yet. */
interface PendingRequest extends Readonly<RequestPrefix>, Pending {
  /** Of one that is not an object's. */
  answer: Answer | undefined;
}

const noPayload: readonly Uint8Array[] = [];

/**
 * The server's side of one connection.
 *
 * How requests are taken and answered together: see `RequestPump`. When the server closes, what was begun
 * is answered and the rest is not: clients connect again and send it once more, whereas an error would
 * reach the guest.
 */
export class SheepdogConnection {
  /** Resolves when the connection is closed and no disk is asked for it any more. */
  readonly done: Promise<void>;
  readonly client: ObjectClient;
  readonly #connection: Connection;
  readonly #settings: ConnectionSettings;
  readonly #components: ConnectionComponents;
  readonly #queue: ByteQueue;
  readonly #replies: ReplyWriter;
  readonly #request: RequestPrefix = {
    protocolVersion: 0,
    opcode: 0,
    flags: 0,
    epoch: 0,
    id: 0,
    dataLength: 0,
  };
  #operation: Operation | undefined;
  /** Of an object's request. */
  #fields: ObjectFields | undefined;
  /** Of any other. */
  #header = new Uint8Array(0);
  readonly #pump: RequestPump<PendingRequest>;
  #haveHeader = false;
  #payloadBytes = 0;
  /** The result for a request that is not begun; its payload is skipped. */
  #refusal = 0;
  /** The vid of the last data request, and all there were: who uses a disk is known to it. */
  #lastVid = 0;
  /** Of that disk, and when the request that is being begun was taken. */
  #meter: RequestMeter | undefined;
  #beganMs = 0;
  readonly #vids = new Set<number>();
  #requests = 0;
  #receivedBytes = 0;
  #stall: Timer | undefined;

  constructor(
    connection: Connection,
    settings: ConnectionSettings,
    components: ConnectionComponents,
  ) {
    this.#connection = connection;
    this.#settings = settings;
    this.#components = components;
    this.#replies = components.replies;
    this.#queue = new ByteQueue((chunk, count) => connection.release(chunk, count));
    this.client = clientOf(connection.peer);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.done = promise;
    const { stat } = components.cluster;
    this.#pump = new RequestPump<PendingRequest>(
      {
        step: () => this.#step(),
        succeed: (request) => this.#succeed(request),
        fail: (request, error) => this.#fail(request, error),
        settled: () => {
          stat.gatewayActive--;
        },
        sending: (count) => {
          stat.gatewaySentBytes += count;
        },
        done: () => {
          components.objects.disconnected(this.client);
          resolve();
        },
      },
      settings,
      { connection, queue: this.#queue, replies: this.#replies, timers: components.timers },
    );
    components.objects.connected(this.client);
    connection.start({
      data: (chunk) => this.#data(chunk),
      drain: () => this.#pump.drained(),
      close: () => {
        this.#stall?.cancel();
        this.#pump.closed();
      },
    });
  }

  get requests(): number {
    return this.#requests;
  }

  get inFlight(): number {
    return this.#pump.inFlight;
  }

  /** Begins nothing more; when what is in flight is answered, it ends. */
  shutdown(): void {
    this.#pump.finish();
    this.#pump.pump();
  }

  destroy(): void {
    this.#connection.destroy();
  }

  #data(chunk: Uint8Array): void {
    this.#receivedBytes += chunk.length;
    this.#components.cluster.stat.gatewayReceivedBytes += chunk.length;
    this.#queue.push(chunk);
    this.#pump.pump();
    this.#watchForStall();
  }

  /** Takes one request, or part of one, from the queue. False when there is no more to take. */
  #step(): boolean {
    const queue = this.#queue;
    if (!this.#haveHeader && !this.#takeHeader()) return false;
    if (this.#refusal !== 0) {
      const some = Math.min(this.#payloadBytes, queue.byteLength);
      queue.skip(some);
      this.#payloadBytes -= some;
      if (this.#payloadBytes > 0) return false;
      this.#taken();
      this.#replies.failure(this.#request, this.#refusal);
      return true;
    }
    if (queue.byteLength < this.#payloadBytes) return false;
    this.#taken();
    this.#begin();
    return true;
  }

  #taken(): void {
    this.#haveHeader = false;
    this.#requests++;
    this.#components.cluster.stat.gatewayTotal++;
  }

  #takeHeader(): boolean {
    if (isEnding(this.#components.cluster.status)) {
      // Any result would be an I/O error to a guest. Without one its driver asks the next server again.
      this.#pump.finish();
      return false;
    }
    const queue = this.#queue;
    if (!queue.gather(requestBytes)) return false;
    const [bytes, at] = [queue.head, queue.headOffset];
    const request = this.#request;
    decodeRequestPrefix(bytes, at, request);
    this.#payloadBytes = (request.flags & requestFlag.write) !== 0 ? request.dataLength : 0;
    if (this.#payloadBytes > payloadBytesDiscardMax) {
      this.#abort("a request has too long a payload");
      return false;
    }
    this.#operation = operations.get(request.opcode);
    if (this.#operation?.kind === "object") this.#fields = decodeObjectFields(bytes, at);
    // A copy: not `slice`, which of a Buffer is a view.
    else this.#header = new Uint8Array(bytes.subarray(at, at + requestBytes));
    queue.skip(requestBytes);
    this.#refusal = this.#check();
    this.#haveHeader = true;
    return true;
  }

  /** In the order in which the original checks (facts page, 1.2). */
  #check(): number {
    const { opcode: code, protocolVersion: version } = this.#request;
    const { objects } = this.#components;
    const versionFits =
      code >= internalOpcodesFrom
        ? version === internalProtocolVersion
        : version <= protocolVersion;
    if (!versionFits) return result.versionMismatch;
    const operation = this.#operation;
    if (operation === undefined) return result.invalidParameters;
    if (operation.kind === "refused") return operation.result;
    if (operation.kind !== "object") {
      return this.#payloadBytes > callPayloadBytesMax ? result.invalidParameters : 0;
    }
    try {
      return refusalOf(this.#request, this.#fields as ObjectFields, objects);
    } catch (error) {
      return this.#resultOf(error); // there is no such disk
    }
  }

  #begin(): void {
    const operation = this.#operation as Operation;
    if (operation.kind === "object") {
      this.#noteUse();
      this.#beganMs = this.#meter?.nowMs() ?? 0;
      if (this.#request.opcode === opcode.readObject) this.#read();
      else this.#change();
      return;
    }
    if (operation.kind === "refused") return; // answered before
    const { prefix, call } = this.#takeCall();
    const { serial } = this.#components.cluster;
    const run = () => operation.run(call, this.#components);
    const pending = pendingOf(prefix, prefix.dataLength);
    const answered = operation.kind === "cluster" ? serial.run(run) : run();
    const done = answered.then((answer) => {
      pending.answer = answer;
    });
    this.#track(done, pending);
  }

  #takeCall(): { prefix: RequestPrefix; call: Call } {
    const prefix = { ...this.#request };
    const chunks = this.#queue.take(this.#payloadBytes);
    // Few and short, and read by many decoders.
    const payload = new Uint8Array(joinBytes(chunks));
    this.#pump.release(chunks);
    return { prefix, call: { prefix, header: this.#header, payload, client: this.client } };
  }

  #noteUse(): void {
    const { oid } = this.#fields as ObjectFields;
    if (oid === undefined || oid.vid === this.#lastVid || oid.kind !== "data") return;
    this.#lastVid = oid.vid;
    this.#meter = this.#components.meterOfVid?.(oid.vid);
    if (this.#vids.has(oid.vid)) return;
    this.#vids.add(oid.vid);
    this.#components.objects.used(this.client, oid.vid);
  }

  #read(): void {
    const replies = this.#replies;
    const { objects, cluster } = this.#components;
    const { oid, offset } = this.#fields as ObjectFields;
    if (oid === undefined) return; // refused before
    cluster.stat.gatewayReads++;
    const { dataLength } = this.#request;
    const target = replies.reserveRead(dataLength);
    let completion: Completion<void>;
    try {
      completion = objects.read(oid, offset, target);
    } catch (error) {
      replies.cancelRead();
      this.#failAtOnce(error); // the world's failures are the client's to know
      return;
    }
    if (!isPending(completion)) {
      replies.finishRead(this.#request);
      this.#doneAtOnce();
      return;
    }
    const pending = this.#measured(pendingOf(this.#request, dataLength));
    pending.reply = replies.detachRead();
    this.#track(completion, pending);
  }

  #change(): void {
    const { objects } = this.#components;
    const request = this.#request;
    const payload = this.#payloadBytes > 0 ? this.#queue.take(this.#payloadBytes) : noPayload;
    this.#count(request.opcode);
    let completion: Completion<void>;
    try {
      completion = changeObject(request, this.#fields as ObjectFields, { objects, payload });
    } catch (error) {
      this.#failAtOnce(error); // as above
      this.#pump.release(payload);
      return;
    }
    if (isPending(completion)) {
      const pending = this.#measured(pendingOf(request, this.#payloadBytes));
      pending.payload = payload;
      this.#track(completion, pending);
      return;
    }
    this.#replies.success(request);
    this.#pump.release(payload);
    this.#doneAtOnce();
  }

  #measured(pending: PendingRequest): PendingRequest {
    pending.meter = this.#meter;
    pending.kind = kindOf(pending);
    pending.bytes = pending.dataLength;
    pending.beganMs = this.#beganMs;
    return pending;
  }

  #doneAtOnce(): void {
    const { dataLength } = this.#request;
    const tookMs = (this.#meter?.nowMs() ?? 0) - this.#beganMs;
    this.#meter?.done(kindOf(this.#request), dataLength, tookMs);
  }

  #failAtOnce(error: unknown): void {
    this.#fail(this.#request, error);
    const tookMs = (this.#meter?.nowMs() ?? 0) - this.#beganMs;
    this.#meter?.failed(kindOf(this.#request), tookMs);
  }

  #count(operation: number): void {
    const { stat } = this.#components.cluster;
    if (operation === opcode.flushVdi) stat.gatewayFlushes++;
    else if (operation === opcode.removeObject) stat.gatewayRemoves++;
    else stat.gatewayWrites++;
  }

  #track(completion: Promise<void>, pending: PendingRequest): void {
    this.#components.cluster.stat.gatewayActive++;
    this.#pump.track(completion, pending);
  }

  #succeed(request: PendingRequest): void {
    if (request.reply !== undefined) this.#replies.appendRead(request, request.reply);
    else if (request.answer !== undefined) this.#replies.answer(request, request.answer);
    else this.#replies.success(request);
  }

  #fail(request: Readonly<RequestPrefix>, error: unknown): void {
    this.#replies.failure(request, this.#resultOf(error));
  }

  #resultOf(error: unknown): number {
    const code = resultOf(error);
    if (code !== undefined) return code;
    this.#components.log.error("sheepdog request failed unexpectedly", { error: messageOf(error) });
    return result.systemError;
  }

  /** One timer at a time, looked at only when it is due: most requests come in more than one piece. */
  #watchForStall(): void {
    const isPartial = this.#haveHeader || this.#queue.byteLength > 0;
    if (!isPartial || this.#stall !== undefined || !this.#pump.isOpen) return;
    const receivedBytes = this.#receivedBytes;
    this.#stall = this.#components.timers.after(this.#settings.stalledMs, () => {
      this.#stall = undefined;
      // While it is paused, it is we who let it wait.
      if (receivedBytes === this.#receivedBytes && !this.#pump.isPaused && this.#pump.isOpen) {
        this.#abort("a request was begun and not sent to its end");
      } else {
        this.#watchForStall();
      }
    });
  }

  #abort(reason: string): void {
    const { log } = this.#components;
    log.warn("sheepdog connection dropped", { peer: this.client.peer, reason });
    this.#pump.abort();
  }
}

const kinds: Partial<Record<number, MeterKind>> = {
  [opcode.readObject]: meterKind.read,
  [opcode.writeObject]: meterKind.write,
  [opcode.createAndWriteObject]: meterKind.write,
  [opcode.flushVdi]: meterKind.flush,
  [opcode.discardObject]: meterKind.trim,
};

/** What a request for an object is counted as. */
function kindOf(request: Readonly<RequestPrefix>): MeterKind {
  return kinds[request.opcode] ?? meterKind.other;
}

/** Not measured: that is for what moves data of a disk. */
function pendingOf(request: Readonly<RequestPrefix>, costBytes: number): PendingRequest {
  const unmeasured = { meter: undefined, kind: meterKind.other, bytes: 0, beganMs: 0 };
  return {
    ...request,
    ...unmeasured,
    costBytes,
    reply: undefined,
    payload: undefined,
    answer: undefined,
  };
}

/** "10.0.0.3:40312", "[::1]:40312", or anything else for what has no address. */
function clientOf(peer: string): ObjectClient {
  const match = /^\[?(.*?)\]?:(\d+)$/.exec(peer);
  return { peer, host: match?.[1] ?? "", port: Number(match?.[2] ?? 0) };
}
