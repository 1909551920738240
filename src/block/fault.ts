import { type ErrorCode, KelpieError } from "../base/errors.ts";
import type { BlockDevice } from "./block-device.ts";
import { type DeviceOperation, type DeviceRequest, interceptDevice } from "./intercept.ts";

export interface Fault {
  /** Which requests count; all of them by default. */
  operation?: DeviceOperation;
  /** Counts only requests that touch this range. */
  range?: { start: number; end: number };
  /** The first matching request that fails, from 1 (the default). */
  nth?: number;
  /** How many fail from there on; 1 by default, Infinity for all. */
  times?: number;
  /** "io" by default. */
  code?: ErrorCode;
}

/** A device that fails as told: a failing request never reaches the device behind it. */
export class FaultDevice {
  readonly device: BlockDevice;
  readonly #faults: { fault: Fault; seen: number }[] = [];

  constructor(device: BlockDevice) {
    this.device = interceptDevice(device, (request, run) => {
      const code = this.#failureOf(request);
      if (code === undefined) return run();
      throw new KelpieError(code, `injected fault: ${request.operation} at ${request.offset}`);
    });
  }

  inject(fault: Fault): void {
    this.#faults.push({ fault, seen: 0 });
  }

  heal(): void {
    this.#faults.length = 0;
  }

  #failureOf(request: DeviceRequest): ErrorCode | undefined {
    let code: ErrorCode | undefined;
    for (const entry of this.#faults) {
      const { fault } = entry;
      if (!matches(fault, request)) continue;
      entry.seen++;
      const first = fault.nth ?? 1;
      if (entry.seen >= first && entry.seen < first + (fault.times ?? 1)) {
        code ??= fault.code ?? "io";
      }
    }
    return code;
  }
}

function matches({ operation, range }: Fault, request: DeviceRequest): boolean {
  if (operation !== undefined && operation !== request.operation) return false;
  if (range === undefined) return true;
  return request.offset < range.end && range.start < request.offset + request.length;
}
