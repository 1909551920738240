import { isPending } from "../src/base/completion.ts";
import { type BlockDevice, blockBytes } from "../src/block/block-device.ts";

export interface DeviceLoad {
  kind: "read" | "write";
  queueDepth: number;
  runtimeMs: number;
}

/**
 * 4 KiB requests at random places of a device, by this process, always `queueDepth` of them in flight.
 * Resolves with requests a second, once the last one is answered.
 */
export async function loadDevice(device: BlockDevice, load: DeviceLoad): Promise<number> {
  const { kind, queueDepth, runtimeMs } = load;
  const blocks = Math.floor(device.sizeBytes / blockBytes);
  const startMs = performance.now();
  let requests = 0;
  const lane = async () => {
    const block = Buffer.alloc(blockBytes, 0x5a);
    while (performance.now() - startMs < runtimeMs) {
      const offset = Math.floor(Math.random() * blocks) * blockBytes;
      const done = kind === "read" ? device.read(block, offset) : device.write([block], offset);
      if (isPending(done)) await done;
      requests++;
    }
  };
  await Promise.all(Array.from({ length: queueDepth }, lane));
  return requests / ((performance.now() - startMs) / 1000);
}
