import { assert } from "./assert.ts";
import { KelpieError } from "./errors.ts";

/**
 * Integers of u64 size are JavaScript numbers everywhere in Kelpie. The free functions read what is
 * there, and above 2^53 - 1 the result is rounded: for a boundary that answers such a value with an
 * error of its own. Reader refuses it. There is no BigInt: it allocates, and these run per request.
 */
export function readU16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

/** As a signed number: half the cost, for what is only compared or handed back. */
export function readI32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}

export function readU32(bytes: Uint8Array, at: number): number {
  return readI32(bytes, at) >>> 0;
}

export function readU64(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at) * 2 ** 32 + readU32(bytes, at + 4);
}

export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** Takes signed and unsigned values alike. */
export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

export function writeU64(bytes: Uint8Array, at: number, value: number): void {
  writeU32(bytes, at, Math.floor(value / 2 ** 32));
  writeU32(bytes, at + 4, value % 2 ** 32);
}

export type ByteOrder = "big" | "little";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const utf8Encoder = new TextEncoder();

export function encodeUtf8(text: string): Uint8Array {
  return utf8Encoder.encode(text);
}

/** Throws "invalid" for bytes that are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new KelpieError("invalid", "text is not valid UTF-8"); // the only thing decode refuses
  }
}

/** The concatenation, as one new array, or the only part itself. */
export function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0] as Uint8Array;
  const joined = new Uint8Array(lengthOf(parts));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

export function lengthOf(parts: readonly Uint8Array[]): number {
  let length = 0;
  for (let index = 0; index < parts.length; index++) length += (parts[index] as Uint8Array).length;
  return length;
}

/** Takes fields off the front of a message. Everything it cannot do throws "invalid". */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #little: boolean;
  #at = 0;

  constructor(bytes: Uint8Array, order: ByteOrder = "big") {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#little = order === "little";
  }

  get position(): number {
    return this.#at;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2), this.#little);
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), this.#little);
  }

  u64(): number {
    const at = this.#advance(8);
    const high = this.#view.getUint32(this.#little ? at + 4 : at, this.#little);
    const low = this.#view.getUint32(this.#little ? at : at + 4, this.#little);
    const value = high * 2 ** 32 + low;
    if (value > Number.MAX_SAFE_INTEGER) {
      throw new KelpieError("invalid", "a 64-bit number is larger than 2^53 - 1");
    }
    return value;
  }

  /** A view, not a copy. */
  bytes(count: number): Uint8Array {
    const at = this.#advance(count);
    return this.#bytes.subarray(at, at + count);
  }

  utf8(count: number): string {
    return decodeUtf8(this.bytes(count));
  }

  rest(): Uint8Array {
    return this.bytes(this.remaining);
  }

  skip(count: number): void {
    this.#advance(count);
  }

  /** The message must be used up: what follows would be something we do not understand. */
  end(): void {
    if (this.remaining !== 0) {
      throw new KelpieError("invalid", `${this.remaining} bytes too many in a message`);
    }
  }

  #advance(count: number): number {
    const at = this.#at;
    if (count > this.#bytes.length - at) {
      throw new KelpieError("invalid", `a message ends ${count - this.remaining} bytes too early`);
    }
    this.#at = at + count;
    return at;
  }
}

/** Appends fields to a message; grows as needed. */
export class Writer {
  #bytes: Uint8Array;
  #view: DataView;
  readonly #little: boolean;
  #at = 0;

  constructor(order: ByteOrder = "big", sizeHint = 64) {
    this.#bytes = new Uint8Array(sizeHint);
    this.#view = new DataView(this.#bytes.buffer);
    this.#little = order === "little";
  }

  get length(): number {
    return this.#at;
  }

  u8(value: number): this {
    assert(value >= 0 && value <= 0xff, "u8 out of range");
    const at = this.#advance(1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    assert(value >= 0 && value <= 0xffff, "u16 out of range");
    const at = this.#advance(2);
    this.#view.setUint16(at, value, this.#little);
    return this;
  }

  u32(value: number): this {
    assert(value >= 0 && value <= 0xffffffff, "u32 out of range");
    const at = this.#advance(4);
    this.#view.setUint32(at, value, this.#little);
    return this;
  }

  u64(value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, "u64 out of range");
    const at = this.#advance(8);
    this.#view.setUint32(this.#little ? at + 4 : at, Math.floor(value / 2 ** 32), this.#little);
    this.#view.setUint32(this.#little ? at : at + 4, value % 2 ** 32, this.#little);
    return this;
  }

  bytes(bytes: Uint8Array): this {
    const at = this.#advance(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  utf8(text: string): this {
    return this.bytes(encodeUtf8(text));
  }

  zeros(count: number): this {
    this.#advance(count); // new room is zeroed, and fields are never taken back
    return this;
  }

  /** What was written, without a copy. The writer must not be used after it. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  #advance(count: number): number {
    const at = this.#at;
    const needed = at + count;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#at = needed;
    return at;
  }
}
