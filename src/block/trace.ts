import { isPending } from "../base/completion.ts";
import type { BlockDevice } from "./block-device.ts";
import { type DeviceRequest, interceptDevice } from "./intercept.ts";

export interface TraceListener {
  begin(request: DeviceRequest): void;
  /** Called once for each `begin`, with the same object. */
  end(request: DeviceRequest, error?: unknown): void;
}

/** A device that tells when each request begins and ends. */
export function traceDevice(device: BlockDevice, listener: TraceListener): BlockDevice {
  return interceptDevice(device, (request, run) => {
    listener.begin(request);
    try {
      const completion = run();
      if (!isPending(completion)) {
        listener.end(request);
        return completion;
      }
      return completion.then(
        (result) => {
          listener.end(request);
          return result;
        },
        (error: unknown) => {
          listener.end(request, error);
          throw error;
        },
      );
    } catch (error) {
      listener.end(request, error); // only told: the caller still gets it
      throw error;
    }
  });
}
