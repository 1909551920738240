import { MemoryDisk } from "../../sim/memory-disk.ts";
import type { FileOperation } from "../../sim/memory-faults.ts";
import { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost, type MemoryHost } from "../../sim/memory-host.ts";
import type { Chooser } from "../../sim/random.ts";

/** The disk of a machine at one moment, to be crashed as often as one likes. */
export class DiskMoment {
  readonly #disk: MemoryDisk;

  constructor(disk: MemoryDisk) {
    this.#disk = disk;
  }

  /** Only the process died: all is there, and what was not synced can still be lost. */
  afterProcessDeath(): MemoryDisk {
    return this.#disk.afterCrash({ kind: "process-death" });
  }

  afterPowerLoss(chooser: Chooser): MemoryDisk {
    // Choosing changes the disk that it is done to, so that is a copy.
    return this.afterProcessDeath().afterCrash({ kind: "power-loss", chooser });
  }
}

/** Operations that may change the disk; the others leave nothing to crash between. */
const changing = new Set<FileOperation>([
  "makeDirectory",
  "link",
  "rename",
  "remove",
  "syncDirectory",
  "write",
  "sync",
  "truncate",
]);
/** These do when the file is not there. */
const creating = new Set<FileOperation>(["open", "lock"]);

export interface Machine {
  host: MemoryHost;
  /** The disk as it is now. */
  moment(): DiskMoment;
}

/** A machine with this disk, whose contents are then its own; an empty one by default. */
export function startMachine(
  settings: { seed?: number; disk?: MemoryDisk } = {},
  /** Told before each operation that may change the disk. */
  beforeChange: (change: string) => void = () => {},
): Machine {
  const disk = settings.disk ?? new MemoryDisk(2 ** 30);
  const files = new MemoryFiles({}, disk);
  files.before = ({ operation, path }) => {
    const creates = creating.has(operation) && !isThere(disk, path);
    if (creates || changing.has(operation)) beforeChange(`${operation} ${path}`);
  };
  return {
    host: createMemoryHost({ seed: settings.seed ?? 1, files }),
    moment: () => new DiskMoment(disk.afterCrash({ kind: "process-death" })),
  };
}

function isThere(disk: MemoryDisk, path: string): boolean {
  try {
    disk.find(path);
    return true;
  } catch {
    return false;
  }
}
