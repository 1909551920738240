import type { Timers } from "../host/timers.ts";
import type { Volume } from "../vdi/volume.ts";
import type { Progress } from "./calls.ts";

/** Progress is looked at so often. */
const lookMs = 100;

/** Says what an operation on a VM's memory has before it. */
export interface MemoryMeter {
  /** So much more will be written and read, at most. */
  expect(moreBytes: number): void;
}

/** Tells how much passes through the memory VDI while `action` runs: QEMU itself says nothing meanwhile. */
export async function metered<T>(
  what: { volume: Volume; progress: ((progress: Progress) => void) | undefined },
  components: { timers: Timers },
  action: (meter: MemoryMeter) => Promise<T>,
): Promise<T> {
  const { volume, progress } = what;
  if (progress === undefined) return await action({ expect: () => {} });
  const before = volume.transferredBytes;
  const doneBytes = (): number => volume.transferredBytes - before;
  let totalBytes = 0;
  let isOver = false;
  const look = (): void => {
    if (isOver) return;
    if (totalBytes > 0) progress({ doneBytes: doneBytes(), totalBytes });
    components.timers.after(lookMs, look);
  };
  look();
  try {
    return await action({
      expect(moreBytes) {
        totalBytes = doneBytes() + moreBytes;
        progress({ doneBytes: doneBytes(), totalBytes });
      },
    });
  } finally {
    isOver = true;
  }
}
