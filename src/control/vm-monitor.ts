import { z } from "zod";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Address, Net } from "../host/net.ts";
import type { Timers } from "../host/timers.ts";
import { connectQmp, type QmpClient } from "../qmp/client.ts";
import {
  type Drive,
  humanCommand,
  queryDrives,
  queryNodes,
  queryStatus,
  type RunState,
  type SavedState,
} from "../qmp/commands.ts";
import { runJob, settleJobs } from "../qmp/jobs.ts";
import { parseAnswer } from "../qmp/messages.ts";
import { parseNbdFile } from "./vm-drives.ts";

/** The node of the memory VDI: a qcow2 image, because only that holds states, and what it lies in. */
const memoryNode = "kelpie-memory";
const memoryFileNode = "kelpie-memory-file";
/** Jobs and states that are Kelpie's. */
const ours = "kelpie-";
/**
 * A disk whose server is away stands still for so long before it fails: to start Kelpie again takes
 * seconds, and a guest that gets errors from its disk does not recover.
 */
export const reconnectDelayS = 600;
/** What a qcow2 image says it holds; states lie behind that, and nothing else is written. */
const emptyImageBytes = 2 ** 20;
/** What a VM may be in when its state is to be taken: not half here and half somewhere else. */
const stillStates = new Set([
  "running",
  "paused",
  "prelaunch",
  "io-error",
  "shutdown",
  "suspended",
]);

/** A VM's QEMU, in the words of what is done with it here. */
export class VmMonitor {
  readonly #client: QmpClient;
  readonly #timers: Timers;
  #jobs = 0;

  /** `patienceMs`: how long it may take to greet. QEMU says nothing while its disks' server is away. */
  static async open(
    vm: { name: string; monitor: Address; patienceMs: number },
    components: { net: Net; timers: Timers },
  ): Promise<VmMonitor> {
    const { name, monitor, patienceMs } = vm;
    const settings = { address: monitor, name: `VM "${name}"`, greetingMs: patienceMs };
    return new VmMonitor(await connectQmp(settings, components), components.timers);
  }

  private constructor(client: QmpClient, timers: Timers) {
    this.#client = client;
    this.#timers = timers;
  }

  close(): void {
    this.#client.close();
  }

  /** snapshot-save and its like are there since 6.0. */
  mustBeNewEnough(): void {
    const { major, minor, micro } = this.#client.version;
    if (major >= 6) return;
    throw new KelpieError(
      "unsupported",
      `this QEMU is ${major}.${minor}.${micro}: it cannot save a state into a node of choice`,
      { remedy: "QEMU 6.0 and newer can." },
    );
  }

  status(): Promise<RunState> {
    return queryStatus(this.#client);
  }

  async mustStandStill(): Promise<RunState> {
    const status = await this.status();
    if (stillStates.has(status.state)) return status;
    throw new KelpieError("busy", `its QEMU is in state "${status.state}"`);
  }

  drives(): Promise<Drive[]> {
    return queryDrives(this.#client);
  }

  /** Also writes out what its block layer holds, and flushes; when it stands still already, too. */
  async pause(): Promise<void> {
    await this.#client.execute("stop", undefined, { timeoutMs: Number.POSITIVE_INFINITY });
  }

  /** What it holds of the memory VDI's tables goes there, and is flushed; the guest must stand still. */
  writeOut(): Promise<void> {
    return this.pause();
  }

  async resume(): Promise<void> {
    await this.#client.execute("cont");
  }

  /** A line for people; what QEMU printed. */
  command(line: string): Promise<string> {
    return humanCommand(this.#client, line);
  }

  /** Asks the guest to shut down, as by its power button. */
  async powerDown(): Promise<void> {
    await this.#client.execute("system_powerdown");
  }

  /** Ends QEMU; it closes its disks in order. */
  async quit(): Promise<void> {
    try {
      await this.#client.execute("quit");
    } catch (error) {
      // Gone before it had answered: as it was asked to.
      if (!isKelpieError(error, "closed")) throw error;
    }
    await this.#client.closed;
  }

  /** Resolves when QEMU is gone. */
  get gone(): Promise<void> {
    return this.#client.closed;
  }

  /** What the guest has, with what was plugged in. */
  async memoryBytes(): Promise<number> {
    const command = "query-memory-size-summary";
    const shape = z.object({ "base-memory": z.number(), "plugged-memory": z.number().default(0) });
    const answer = parseAnswer(shape, await this.#client.execute(command), command);
    return answer["base-memory"] + answer["plugged-memory"];
  }

  /** Waits for jobs of ours that an earlier connection began. */
  settleJobs(): Promise<void> {
    return settleJobs(this.#client, ours, { timers: this.#timers });
  }

  /** Gives QEMU the memory VDI, formatted if it is `empty`. False if QEMU has it. */
  async addMemory(vdi: { name: string; server: Address; empty: boolean }): Promise<boolean> {
    const all = await queryNodes(this.#client);
    const nodes = new Set(all.map(({ name }) => name));
    const file = all.find(({ name }) => name === memoryFileNode)?.file;
    if (file !== undefined && parseNbdFile(file)?.exportName !== vdi.name) {
      throw new KelpieError("busy", `its QEMU has the memory of another VM: ${file}`, {
        remedy: "One QEMU is one VM. Under which name was it attached?",
      });
    }
    if (nodes.has(memoryNode)) return false;
    if (!nodes.has(memoryFileNode)) {
      await this.#client.execute("blockdev-add", {
        "node-name": memoryFileNode,
        driver: "nbd",
        server: serverOption(vdi.server),
        export: vdi.name,
        "reconnect-delay": reconnectDelayS,
        discard: "unmap",
      });
    }
    if (vdi.empty) {
      const options = { driver: "qcow2", file: memoryFileNode, size: emptyImageBytes };
      await this.#run("blockdev-create", { options });
    }
    // What a deleted state took is given back to the store.
    const node = { driver: "qcow2", file: memoryFileNode, discard: "unmap" };
    await this.#client.execute("blockdev-add", { "node-name": memoryNode, ...node });
    return true;
  }

  /** Takes it away again, as far as it is there. */
  async removeMemory(): Promise<void> {
    for (const node of [memoryNode, memoryFileNode]) {
      await this.#client.execute("blockdev-del", { "node-name": node }).catch((error) => {
        // It was not there, or QEMU is gone.
        if (!isKelpieError(error)) throw error;
      });
    }
  }

  /** The states that the memory VDI holds. */
  async states(): Promise<SavedState[]> {
    const nodes = await queryNodes(this.#client);
    return nodes.find(({ name }) => name === memoryNode)?.savedStates ?? [];
  }

  /** Memory and devices, into the memory VDI. The guest must stand still. */
  saveState(state: string): Promise<void> {
    return this.#run("snapshot-save", { tag: state, vmstate: memoryNode, devices: [memoryNode] });
  }

  /** Memory and devices become what was saved. When it fails they may be neither. */
  loadState(state: string): Promise<void> {
    return this.#run("snapshot-load", { tag: state, vmstate: memoryNode, devices: [memoryNode] });
  }

  deleteState(state: string): Promise<void> {
    return this.#run("snapshot-delete", { tag: state, devices: [memoryNode] });
  }

  #run(command: string, input: Record<string, unknown>): Promise<void> {
    // Not used by any other: those of earlier connections are settled.
    const id = `${ours}job-${++this.#jobs}`;
    return runJob(this.#client, { command, input, id }, { timers: this.#timers });
  }
}

/** An address as QEMU's options have it. */
function serverOption(address: Address): Record<string, string> {
  if (address.kind === "unix") return { type: "unix", path: address.path };
  return { type: "inet", host: address.host, port: String(address.port) };
}
