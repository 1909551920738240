import type { Host } from "../host.ts";
import type { LogLevel } from "../log.ts";
import { createNodeClock } from "./clock.ts";
import { createNodeFiles } from "./files.ts";
import { createNodeLog } from "./log.ts";
import { createNodeNet } from "./net.ts";
import { createNodeProcesses } from "./processes.ts";
import { createNodeRandom } from "./random.ts";
import { createNodeTimers } from "./timers.ts";

export interface NodeHostSettings {
  /** "info" by default. */
  logLevel?: LogLevel;
}

/**
 * The real world: this machine's clock, files, sockets and programs. It holds nothing that must be closed.
 */
export function createNodeHost(settings: NodeHostSettings = {}): Host {
  const log = createNodeLog({ level: settings.logLevel ?? "info" });
  return {
    clock: createNodeClock(),
    timers: createNodeTimers(),
    random: createNodeRandom(),
    files: createNodeFiles(),
    net: createNodeNet({ log }),
    processes: createNodeProcesses(),
    log,
  };
}
