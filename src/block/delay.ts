import type { Timers } from "../host/timers.ts";
import type { BlockDevice } from "./block-device.ts";
import { type DeviceRequest, interceptDevice } from "./intercept.ts";

export interface DelaySettings {
  /** How long a request waits before it reaches the device; 0 lets it pass at once. */
  delayMs: number | ((request: DeviceRequest) => number);
}

/** A slow device. */
export function delayDevice(
  settings: DelaySettings,
  components: { device: BlockDevice; timers: Timers },
): BlockDevice {
  const { delayMs } = settings;
  return interceptDevice(components.device, (request, run) => {
    const waitMs = typeof delayMs === "number" ? delayMs : delayMs(request);
    return waitMs > 0 ? components.timers.sleep(waitMs).then(run) : run();
  });
}
