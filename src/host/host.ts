import type { Clock } from "./clock.ts";
import type { Files } from "./files.ts";
import type { Log } from "./log.ts";
import type { Net } from "./net.ts";
import type { Processes } from "./processes.ts";
import type { RandomSource } from "./random.ts";
import type { Timers } from "./timers.ts";

/**
 * The outside world. Nothing else in Kelpie touches time, randomness, files, sockets or processes, so
 * that a whole store, crash included, can be replayed from one seed.
 */
export interface Host {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: RandomSource;
  readonly files: Files;
  readonly net: Net;
  readonly processes: Processes;
  readonly log: Log;
}
