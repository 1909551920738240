import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { runFio } from "./fio.ts";
import { startEmptyServer } from "./peers/empty-server.ts";
import { Kelpie } from "./peers/kelpie.ts";
import { startNbdkitMemory } from "./peers/nbdkit.ts";
import { QemuNbd } from "./peers/qemu-nbd.ts";
import { type BenchServer, type ServerName, toolsOf } from "./peers/server.ts";
import type { Measurement } from "./report.ts";
import { missingTools } from "./tools.ts";

/**
 * When a figure is measured, and on what, so that it does not depend on which others are measured too:
 *
 * - filled: on disks written once, in order; these come first.
 * - written: on the same disks after that, with writes at random.
 * - own store: on a store of its own.
 */
export type Phase = "filled" | "written" | "own store";

/** One line of the table of what Kelpie must reach. */
export interface Figure {
  id: string;
  name: string;
  /** In words, as a table shows it. */
  target: string;
  phase: Phase;
  /** Not in the quick form unless it is asked for by name: it takes minutes, or has no target. */
  fullOnly?: boolean;
  /** Throws NotMeasured if it cannot be. */
  measure(bench: Bench): Promise<Measurement>;
}

/** A reason that is no failure: a tool is missing. */
export class NotMeasured extends Error {}

export interface BenchSettings {
  form: "quick" | "full";
  /** Counted turns of each server. */
  rounds: number;
  /** One more before them. */
  warmUp: boolean;
  /** Of one turn. */
  turnMs: number;
  diskBytes: number;
  /** Emptied by whoever made it. */
  scratch: string;
  progress: (line: string) => void;
}

interface Servers {
  Kelpie: Kelpie;
  "qemu-nbd qcow2": QemuNbd;
  "qemu-nbd raw": QemuNbd;
  "nbdkit memory": BenchServer;
  "an empty server": BenchServer;
}

const fillRequestBytes = 2 ** 20;

/** The servers of one run, each started and its disk filled when it is first needed. */
export class Bench {
  readonly settings: BenchSettings;
  readonly #servers = new Map<ServerName, BenchServer>();
  /** All that were ever started: stopping one twice does nothing. */
  readonly #started: BenchServer[] = [];
  #directories = 0;

  constructor(settings: BenchSettings) {
    this.settings = settings;
  }

  /** Why a server cannot be measured, or undefined. */
  missing(name: ServerName): string | undefined {
    return missingTools(["fio", ...toolsOf[name]]);
  }

  async server<N extends ServerName>(name: N): Promise<Servers[N]> {
    const reason = this.missing(name);
    if (reason !== undefined) throw new NotMeasured(reason);
    const running = this.#servers.get(name) ?? (await this.#start(name));
    return running as Servers[N];
  }

  /** A fresh one, for a figure that wants it for itself and stops it. */
  async freshKelpie(sizeBytes: number, flags: readonly string[] = []): Promise<Kelpie> {
    const reason = this.missing("Kelpie");
    if (reason !== undefined) throw new NotMeasured(reason);
    const kelpie = await Kelpie.start({ directory: await this.#directory(), sizeBytes, flags });
    this.#started.push(kelpie);
    await fill(kelpie, sizeBytes);
    return kelpie;
  }

  /** While it is measured no other server may do anything, such as tidy up after its own turn. */
  async alone<T>(server: BenchServer, measure: () => Promise<T>): Promise<T> {
    const others = [...this.#servers.values()].filter((other) => other !== server);
    for (const other of others) other.pause();
    try {
      return await measure();
    } finally {
      for (const other of others) other.resume();
    }
  }

  async #start(name: ServerName): Promise<BenchServer> {
    const { diskBytes: sizeBytes, progress } = this.settings;
    progress(`${name}: starts, and its disk is filled`);
    const server = await startServer(name, { directory: await this.#directory(), sizeBytes });
    this.#started.push(server);
    this.#servers.set(name, server);
    await fill(server, sizeBytes);
    return server;
  }

  async #directory(): Promise<string> {
    const directory = join(this.settings.scratch, String(this.#directories++));
    await mkdir(directory);
    return directory;
  }

  /** All of them are stopped, also when one does not end as it should. */
  async close(): Promise<void> {
    const stopped: Promise<void>[] = [];
    for (const server of this.#started) {
      server.resume(); // an interrupted turn has left it paused, and then it would not end
      stopped.push(server.stop());
    }
    await Promise.allSettled(stopped);
    await Promise.all(stopped);
  }
}

function startServer(
  name: ServerName,
  options: { directory: string; sizeBytes: number },
): Promise<BenchServer> {
  switch (name) {
    case "Kelpie":
      return Kelpie.start(options);
    case "nbdkit memory":
      return startNbdkitMemory(options);
    case "an empty server":
      return startEmptyServer(options);
    case "qemu-nbd qcow2":
      return QemuNbd.start({ ...options, format: "qcow2" });
    case "qemu-nbd raw":
      return QemuNbd.start({ ...options, format: "raw" });
  }
}

/** Once, in order: every block is allocated and in the page cache. */
async function fill({ uri }: BenchServer, sizeBytes: number): Promise<void> {
  await runFio({
    uri,
    rw: "write",
    queueDepth: 8,
    requestBytes: fillRequestBytes,
    totalBytes: sizeBytes,
  });
}
