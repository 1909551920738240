import type { BufferPool } from "../base/buffer-pool.ts";
import { ReplyBuffer } from "../base/reply-buffer.ts";
import { epoch } from "./cluster.ts";
import type { Answer } from "./operation.ts";
import { result } from "./results.ts";
import { requestFlag } from "./wire-opcodes.ts";
import type { RequestPrefix } from "./wire-request.ts";
import { encodeResponsePrefix, type ResponsePrefix, responseBytes } from "./wire-response.ts";

type To = Readonly<Pick<RequestPrefix, "opcode" | "id" | "flags" | "dataLength">>;

/** Collects replies and gives them out as few, long chunks. */
export class ReplyWriter {
  readonly #buffer: ReplyBuffer;
  /** Filled in anew for each reply. */
  readonly #prefix: ResponsePrefix = { opcode: 0, epoch, id: 0, dataLength: 0, result: 0 };

  constructor(pool: BufferPool) {
    this.#buffer = new ReplyBuffer(pool);
  }

  get byteLength(): number {
    return this.#buffer.byteLength;
  }

  takeAll(): Uint8Array[] {
    return this.#buffer.takeAll();
  }

  /** See `ReplyBuffer.reuse`. */
  reuse(unsentBytes: number): void {
    this.#buffer.reuse(unsentBytes);
  }

  success(to: To): void {
    this.#short(to, result.success, 0);
  }

  failure(to: To, code: number): void {
    this.#short(to, code, 0);
  }

  answer(to: To, answer: Answer): void {
    const isWrite = (to.flags & requestFlag.write) !== 0;
    // Nobody would read it, and take it for the next reply.
    const takesNone = isWrite && (to.flags & requestFlag.piggyback) === 0;
    const payload = answer.payload?.subarray(0, takesNone ? 0 : to.dataLength);
    this.#short(to, answer.result ?? result.success, payload?.length ?? 0);
    answer.fill?.(this.#buffer.bytes, this.#buffer.offset);
    if (payload !== undefined && payload.length > 0) this.#buffer.append(payload);
  }

  /** Makes room for a read's reply; gives the room for its data. */
  reserveRead(length: number): Uint8Array {
    this.#buffer.reserve(responseBytes + length);
    const { bytes, offset } = this.#buffer;
    return bytes.subarray(offset + responseBytes, offset + responseBytes + length);
  }

  /** The read has failed: the room is not needed. */
  cancelRead(): void {
    this.#buffer.cancel();
  }

  /** The data is in its room. */
  finishRead(to: To): void {
    this.#header(this.#buffer.bytes, this.#buffer.offset, to, to.dataLength);
  }

  /** The data will be there later: see `appendRead`. */
  detachRead(): Uint8Array {
    return this.#buffer.detach();
  }

  appendRead(to: To, reply: Uint8Array): void {
    this.#header(reply, 0, to, to.dataLength);
    this.#buffer.attach(reply);
  }

  #short(to: To, code: number, dataLength: number): void {
    this.#buffer.reserve(responseBytes);
    this.#header(this.#buffer.bytes, this.#buffer.offset, to, dataLength, code);
  }

  #header(
    bytes: Uint8Array,
    at: number,
    to: To,
    dataLength: number,
    code: number = result.success,
  ): void {
    const prefix = this.#prefix;
    prefix.opcode = to.opcode;
    prefix.id = to.id;
    prefix.dataLength = dataLength;
    prefix.result = code;
    encodeResponsePrefix(bytes, at, prefix);
  }
}
