import { lengthOf } from "../base/bytes.ts";
import type { Completion } from "../base/completion.ts";
import { KelpieError } from "../base/errors.ts";
import type {
  BlockDevice,
  Extent,
  ExtentQuery,
  WriteOptions,
  ZeroOptions,
} from "./block-device.ts";

/**
 * Checks each request's range and rights, once, for every server: what is behind the guard only
 * asserts. Throws (or rejects with, for `extents`) "invalid" for a range that is not inside the disk,
 * "no-space" if the request was to write there, "read-only". Empty requests do nothing.
 */
export function guardDevice(device: BlockDevice): BlockDevice {
  return new GuardedDevice(device);
}

class GuardedDevice implements BlockDevice {
  readonly #device: BlockDevice;

  constructor(device: BlockDevice) {
    this.#device = device;
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#device.readOnly;
  }

  read(target: Uint8Array, offset: number): Completion<void> {
    const length = target.length;
    if (!this.#contains(offset, length)) throw this.#outside("read", offset, length);
    if (length !== 0) return this.#device.read(target, offset);
  }

  write(chunks: readonly Uint8Array[], offset: number, options?: WriteOptions): Completion<void> {
    const length = lengthOf(chunks);
    this.#checkWritable();
    if (!this.#contains(offset, length)) throw this.#beyond("write", offset, length);
    if (length !== 0) return this.#device.write(chunks, offset, options);
  }

  zero(offset: number, length: number, options?: ZeroOptions): Completion<void> {
    this.#checkWritable();
    if (!this.#contains(offset, length)) throw this.#beyond("zero", offset, length);
    if (length !== 0) return this.#device.zero(offset, length, options);
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion<void> {
    this.#checkWritable();
    if (!this.#contains(offset, length)) throw this.#outside("trim", offset, length);
    if (length !== 0) return this.#device.trim(offset, length, options);
  }

  flush(): Completion<void> {
    return this.#device.flush();
  }

  cache(offset: number, length: number): Completion<void> {
    if (!this.#contains(offset, length)) throw this.#outside("cache", offset, length);
    if (length !== 0) return this.#device.cache(offset, length);
  }

  async extents(query: ExtentQuery): Promise<Extent[]> {
    const { offset, length, extentsMax } = query;
    if (!this.#contains(offset, length)) throw this.#outside("extents", offset, length);
    if (length === 0 || extentsMax < 1) {
      throw new KelpieError("invalid", "an extent query must ask for something");
    }
    return this.#device.extents(query);
  }

  changeBases(): Promise<string[]> {
    return this.#device.changeBases();
  }

  /** Offsets may come from 64-bit fields, rounded: then they are far outside of every disk. */
  #contains(offset: number, length: number): boolean {
    return (
      offset >= 0 &&
      length >= 0 &&
      offset <= this.#device.sizeBytes - length &&
      Number.isInteger(offset) &&
      Number.isInteger(length)
    );
  }

  #checkWritable(): void {
    if (this.#device.readOnly) throw new KelpieError("read-only", "the disk is read-only");
  }

  #outside(what: string, offset: number, length: number): KelpieError {
    const range = `${what} of ${length} bytes at ${offset}`;
    return new KelpieError("invalid", `${range}: the disk has ${this.#device.sizeBytes} bytes`);
  }

  /** The protocols tell a write past the end from one that makes no sense. */
  #beyond(what: string, offset: number, length: number): KelpieError {
    const senseless = !(offset >= 0 && length >= 0);
    const error = this.#outside(what, offset, length);
    return senseless ? error : new KelpieError("no-space", error.message);
  }
}
