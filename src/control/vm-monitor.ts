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

/**
 * Where a QEMU keeps states of itself: in qcow2 images, because only those hold states.
 * memory  in the memory VDI
 * copy    in a copy of the memory VDI, as it was when it was made: states are loaded from there. An image
 *         that one was loaded from shares that one's clusters; what is saved into it next is written in
 *         small pieces, each of them flushed, and takes several times as long
 * spare   in a file that no name leads to any more, and that is gone with the QEMU
 */
export type ImagePlace = "memory" | "copy" | "spare";

/** The node of an image, and the one of what it lies in. */
const imageNode: Record<ImagePlace, string> = {
  memory: "kelpie-memory",
  copy: "kelpie-copy",
  spare: "kelpie-spare",
};
const fileNode: Record<ImagePlace, string> = {
  memory: "kelpie-memory-file",
  copy: "kelpie-copy-file",
  spare: "kelpie-spare-file",
};
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
    const file = all.find(({ name }) => name === fileNode.memory)?.file;
    if (file !== undefined && parseNbdFile(file)?.exportName !== vdi.name) {
      throw new KelpieError("busy", `its QEMU has the memory of another VM: ${file}`, {
        remedy: "One QEMU is one VM. Under which name was it attached?",
      });
    }
    if (nodes.has(imageNode.memory)) return false;
    if (!nodes.has(fileNode.memory)) await this.#addVdi("memory", vdi);
    if (vdi.empty) await this.#format("memory");
    await this.#addImage("memory");
    return true;
  }

  /** A copy of the memory VDI, to load from. */
  async addCopy(vdi: { name: string; server: Address }): Promise<void> {
    await this.#addVdi("copy", vdi);
    await this.#addImage("copy");
  }

  /** An empty image in a file at `path`, which QEMU makes; the name may be removed then. */
  async addSpare(path: string): Promise<void> {
    await this.#run("blockdev-create", { options: { driver: "file", filename: path, size: 0 } });
    await this.#client.execute("blockdev-add", {
      "node-name": fileNode.spare,
      driver: "file",
      filename: path,
      // What loses it, power, takes the QEMU that it is of.
      cache: { "no-flush": true },
    });
    await this.#format("spare");
    await this.#addImage("spare");
  }

  /** Takes an image away again, as far as it is there. */
  async removeImage(place: ImagePlace): Promise<void> {
    const there = new Set((await queryNodes(this.#client)).map(({ name }) => name));
    for (const node of [imageNode[place], fileNode[place]]) {
      if (there.has(node)) await this.#client.execute("blockdev-del", { "node-name": node });
    }
  }

  /** The states that an image holds; none if there is no such image. */
  async states(place: ImagePlace = "memory"): Promise<SavedState[]> {
    const nodes = await queryNodes(this.#client);
    return nodes.find(({ name }) => name === imageNode[place])?.savedStates ?? [];
  }

  /** Memory and devices, into an image. The guest must stand still. */
  saveState(state: string, place: ImagePlace): Promise<void> {
    const node = imageNode[place];
    return this.#run("snapshot-save", { tag: state, vmstate: node, devices: [node] });
  }

  /** Memory and devices become what was saved. When it fails they may be neither. */
  loadState(state: string, place: ImagePlace): Promise<void> {
    const node = imageNode[place];
    return this.#run("snapshot-load", { tag: state, vmstate: node, devices: [node] });
  }

  /** Of the memory VDI. */
  deleteState(state: string): Promise<void> {
    return this.#run("snapshot-delete", { tag: state, devices: [imageNode.memory] });
  }

  async #addVdi(place: ImagePlace, vdi: { name: string; server: Address }): Promise<void> {
    await this.#client.execute("blockdev-add", {
      "node-name": fileNode[place],
      driver: "nbd",
      server: serverOption(vdi.server),
      export: vdi.name,
      "reconnect-delay": reconnectDelayS,
      discard: "unmap",
    });
  }

  #format(place: ImagePlace): Promise<void> {
    const options = { driver: "qcow2", file: fileNode[place], size: emptyImageBytes };
    return this.#run("blockdev-create", { options });
  }

  async #addImage(place: ImagePlace): Promise<void> {
    await this.#client.execute("blockdev-add", {
      "node-name": imageNode[place],
      driver: "qcow2",
      file: fileNode[place],
      // What a deleted state took is given back to the store.
      discard: "unmap",
    });
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
