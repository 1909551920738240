import { lengthOf } from "../base/bytes.ts";
import type { Completion } from "../base/completion.ts";
import type {
  BlockDevice,
  Extent,
  ExtentQuery,
  WriteOptions,
  ZeroOptions,
} from "./block-device.ts";

export type DeviceOperation = "read" | "write" | "zero" | "trim" | "flush" | "cache" | "extents";

export interface DeviceRequest {
  operation: DeviceOperation;
  offset: number;
  length: number;
}

/** Sees a request and decides when, and whether, it goes on: by calling `run` once, or not at all. */
export type Interceptor = <T>(request: DeviceRequest, run: () => Completion<T>) => Completion<T>;

/** A device whose every request passes through `around`: what delay, fault and trace are made of. */
export function interceptDevice(device: BlockDevice, around: Interceptor): BlockDevice {
  return new InterceptedDevice(device, around);
}

class InterceptedDevice implements BlockDevice {
  readonly #device: BlockDevice;
  readonly #around: Interceptor;

  constructor(device: BlockDevice, around: Interceptor) {
    this.#device = device;
    this.#around = around;
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#device.readOnly;
  }

  read(target: Uint8Array, offset: number): Completion<void> {
    const request: DeviceRequest = { operation: "read", offset, length: target.length };
    return this.#around(request, () => this.#device.read(target, offset));
  }

  write(chunks: readonly Uint8Array[], offset: number, options?: WriteOptions): Completion<void> {
    const request: DeviceRequest = { operation: "write", offset, length: lengthOf(chunks) };
    return this.#around(request, () => this.#device.write(chunks, offset, options));
  }

  zero(offset: number, length: number, options?: ZeroOptions): Completion<void> {
    const request: DeviceRequest = { operation: "zero", offset, length };
    return this.#around(request, () => this.#device.zero(offset, length, options));
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion<void> {
    const request: DeviceRequest = { operation: "trim", offset, length };
    return this.#around(request, () => this.#device.trim(offset, length, options));
  }

  flush(): Completion<void> {
    const request: DeviceRequest = { operation: "flush", offset: 0, length: 0 };
    return this.#around(request, () => this.#device.flush());
  }

  cache(offset: number, length: number): Completion<void> {
    const request: DeviceRequest = { operation: "cache", offset, length };
    return this.#around(request, () => this.#device.cache(offset, length));
  }

  async extents(query: ExtentQuery): Promise<Extent[]> {
    const { offset, length } = query;
    const request: DeviceRequest = { operation: "extents", offset, length };
    return this.#around(request, () => this.#device.extents(query));
  }

  changeBases(): Promise<string[]> {
    return this.#device.changeBases();
  }
}
