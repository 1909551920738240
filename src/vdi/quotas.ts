import { KelpieError } from "../base/errors.ts";
import { namePattern } from "../base/name-pattern.ts";
import { formatSize } from "../base/sizes.ts";
import { blockBytes } from "../block/block-device.ts";
import type { Clock } from "../host/clock.ts";
import type { Log } from "../host/log.ts";
import type { Store } from "../store/store.ts";
import type { VdiRegistry } from "./registry.ts";

/** A quota and what its disks take of it. */
export interface QuotaUse {
  pattern: string;
  limitBytes: number;
  usedBytes: number;
  /** Names with the pattern that have a working VDI. */
  disks: number;
}

/** How old the figure of what is used may be: adding up looks at every point of the disks. */
const countedMs = 1000;
/** When a write would not fit by an old figure. */
const countedNearMs = 20;
/** Who watches the log has time from here on; and is told again when it went below the second. */
const warnShare = 0.9;
const warnAgainShare = 0.85;

/**
 * Space by names. A disk counts what its working VDI maps, and what only its snapshots hold; what it
 * shares with the disk it was cloned from counts for both. Writes that are under way are not in the
 * figure yet, so a quota may be passed by as much as clients have in flight.
 */
export class Quotas {
  readonly #registry: VdiRegistry;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #counts = new Map<string, Count>();

  constructor(components: { registry: VdiRegistry; store: Store; clock: Clock; log: Log }) {
    this.#registry = components.registry;
    this.#store = components.store;
    this.#clock = components.clock;
    this.#log = components.log;
  }

  /** Before a guest writes. Throws "no-space", naming the quota. */
  admit(name: string, bytes: number): void {
    if (this.#registry.quotas.size === 0) return; // as a rule, and for each write
    for (const [pattern, limitBytes] of this.#registry.quotas) {
      const count = this.#countOf(pattern);
      if (!count.matches.test(name)) continue;
      if (this.#isOlder(count, countedMs)) this.#add(count);
      const fits = () => count.usedBytes + count.writtenBytes + bytes <= limitBytes;
      if (!fits() && this.#isOlder(count, countedNearMs)) this.#add(count);
      this.#warn(count, limitBytes);
      if (!fits()) throw isUsedUp(name, pattern, limitBytes);
      count.writtenBytes += bytes;
    }
  }

  list(): QuotaUse[] {
    return [...this.#registry.quotas].map(([pattern, limitBytes]) => {
      const count = this.#countOf(pattern);
      this.#add(count);
      const names = [...this.#registry.working.keys()];
      const disks = names.filter((name) => count.matches.test(name)).length;
      return { pattern, limitBytes, usedBytes: count.usedBytes, disks };
    });
  }

  #countOf(pattern: string): Count {
    const found = this.#counts.get(pattern) ?? new Count(pattern);
    this.#counts.set(pattern, found);
    return found;
  }

  #isOlder({ countedAtMs }: Count, ms: number): boolean {
    return this.#clock.monotonicMs() - countedAtMs >= ms;
  }

  #add(count: Count): void {
    let blocks = 0;
    for (const name of this.#registry.names()) {
      if (!count.matches.test(name)) continue;
      const working = this.#registry.working.get(name);
      if (working !== undefined) blocks += this.#store.point(working.tip).mappedBlocks;
      for (const { point } of this.#registry.snapshotsOf(name)) {
        blocks += Math.max(0, this.#store.point(point).exclusiveBlocks);
      }
    }
    count.usedBytes = blocks * blockBytes;
    count.writtenBytes = 0;
    count.countedAtMs = this.#clock.monotonicMs();
  }

  #warn(count: Count, limitBytes: number): void {
    const { pattern, usedBytes } = count;
    if (usedBytes < limitBytes * warnAgainShare) count.warned = false;
    if (usedBytes < limitBytes * warnShare || count.warned) return;
    count.warned = true;
    this.#log.warn("quota nearly used", { pattern, usedBytes, limitBytes });
  }
}

class Count {
  readonly pattern: string;
  readonly matches: RegExp;
  usedBytes = 0;
  /** Admitted since it was counted: overwrites too, so it is counted again before it is believed. */
  writtenBytes = 0;
  countedAtMs = Number.NEGATIVE_INFINITY;
  warned = false;

  constructor(pattern: string) {
    this.pattern = pattern;
    this.matches = namePattern(pattern);
  }
}

function isUsedUp(name: string, pattern: string, limitBytes: number): KelpieError {
  const quota = `the quota of ${formatSize(limitBytes)} for "${pattern}" is used up`;
  return new KelpieError("no-space", `disk "${name}": ${quota}`, {
    remedy: "delete disks or snapshots of these names, discard, or kelpie quota set a larger one",
  });
}
