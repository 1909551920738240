import type { Host } from "../src/host/host.ts";
import { silentLog } from "../src/host/log.ts";
import { noProcesses } from "../src/host/processes.ts";
import { MemoryFiles } from "./memory-files.ts";
import { MemoryNet } from "./memory-net.ts";
import { VirtualTime } from "./memory-timers.ts";
import { SeededRandom } from "./random.ts";

export interface MemoryHostSettings {
  seed: number;
  /** The disk to start with, such as what a crash left; an empty one by default. */
  files?: MemoryFiles;
}

export interface MemoryHost extends Host {
  readonly files: MemoryFiles;
  readonly random: SeededRandom;
  /** Clock and timers in one. */
  readonly time: VirtualTime;
}

/**
 * A machine in memory: time stands still until it is advanced, power can be cut, one seed decides.
 */
export function createMemoryHost(settings: MemoryHostSettings): MemoryHost {
  const time = new VirtualTime();
  return {
    time,
    clock: time,
    timers: time,
    random: new SeededRandom(settings.seed),
    files: settings.files ?? new MemoryFiles(),
    net: new MemoryNet({ soon: (action) => time.soon(action) }),
    processes: noProcesses,
    log: silentLog,
  };
}
