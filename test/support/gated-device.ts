import type { BlockDevice } from "../../src/block/block-device.ts";
import { type DeviceRequest, interceptDevice } from "../../src/block/intercept.ts";

/** A device whose requests wait until a test lets them go, in any order. */
export class GatedDevice {
  readonly device: BlockDevice;
  /** Requests that wait, in order of arrival. */
  readonly waiting: { request: DeviceRequest; release(): void; fail(error: Error): void }[] = [];

  constructor(device: BlockDevice) {
    this.device = interceptDevice(device, (request, run) => {
      return new Promise<void>((resolve, reject) => {
        this.waiting.push({ request, release: resolve, fail: reject });
      }).then(run);
    });
  }

  /** Lets the first waiting request of this kind go on. */
  release(operation: DeviceRequest["operation"]): void {
    const index = this.waiting.findIndex(({ request }) => request.operation === operation);
    if (index < 0) throw new Error(`no ${operation} is waiting`);
    this.waiting.splice(index, 1)[0]?.release();
  }

  releaseAll(): void {
    for (const { release } of this.waiting.splice(0)) release();
  }
}
