import type { Timers } from "../host/timers.ts";
import type { Vdis } from "../vdi/vdis.ts";
import type { Progress } from "./calls.ts";
import { copyOf } from "./vm-names.ts";

/** Progress is looked at so often. */
const lookMs = 100;

/** Says what an operation on a VM's memory has before it. */
export interface MemoryMeter {
  /** So much more will be written and read, at most. */
  expect(moreBytes: number): void;
}

/**
 * Tells how much passes through the memory VDI, and the copy of it that is loaded from, while `action`
 * runs: QEMU itself says nothing meanwhile.
 */
export async function metered<T>(
  what: { memory: string; progress: ((progress: Progress) => void) | undefined },
  components: { timers: Timers; vdis: Vdis },
  action: (meter: MemoryMeter) => Promise<T>,
): Promise<T> {
  const { memory, progress } = what;
  if (progress === undefined) return await action({ expect: () => {} });
  const { vdis } = components;
  const transferredBytes = (): number => {
    const names = [memory, copyOf(memory)].filter((name) => vdis.registry.working.has(name));
    return names.reduce((sum, name) => sum + vdis.volume(name).transferredBytes, 0);
  };
  const before = transferredBytes();
  const doneBytes = (): number => Math.max(0, transferredBytes() - before);
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
