import { KelpieError } from "../base/errors.ts";
import { formatSize } from "../base/sizes.ts";
import type { CallContext } from "./calls.ts";
import type { Handlers } from "./control.ts";
import type { VmSnapshotEntry } from "./vm-shapes.ts";
import type { Vms } from "./vms.ts";

type Own = "vm.savevm" | "vm.loadvm" | "vm.delvm" | "vm.snapshots";

/**
 * The monitor for people: QEMU's own, but that its four commands about snapshots do what they say on
 * Kelpie disks.
 */
export class VmCommands {
  readonly #vms: Vms;
  readonly #handlers: Handlers<Own>;

  constructor(components: { vms: Vms; handlers: Handlers<Own> }) {
    this.#vms = components.vms;
    this.#handlers = components.handlers;
  }

  async run(name: string, line: string, context: CallContext): Promise<string> {
    const words = line.trim().split(/\s+/);
    const [command, ...rest] = words;
    switch (command) {
      case "savevm": {
        const [tag] = take(line, rest, { least: 0, most: 1 });
        const input = { name, replace: false, ...(tag === undefined ? {} : { tag }) };
        const { snapshot, ...took } = await this.#handlers["vm.savevm"](input, context);
        return `saved ${described(snapshot)}, ${inSeconds(took)}\n`;
      }
      case "loadvm": {
        const [snapshot = ""] = take(line, rest, { least: 1, most: 1 });
        const input = { name, snapshot };
        const answer = await this.#handlers["vm.loadvm"](input, context);
        return `loaded ${described(answer.snapshot)}, ${inSeconds(answer)}\n`;
      }
      case "delvm": {
        const [snapshot = ""] = take(line, rest, { least: 1, most: 1 });
        await this.#handlers["vm.delvm"]({ name, snapshot }, context);
        return "";
      }
      case "info":
        if (rest.length === 1 && rest[0] === "snapshots") {
          return snapshotTable(await this.#handlers["vm.snapshots"]({ name }, context));
        }
        break;
    }
    return await this.#vms.command(name, line);
  }
}

/** "0.31 s, the guest stood still for 0.29 s" */
export function inSeconds({ tookMs, pausedMs }: { tookMs: number; pausedMs: number }): string {
  const text = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
  return `${text(tookMs)}, the guest stood still for ${text(pausedMs)}`;
}

/** The columns of QEMU's "info snapshots" (7.2), less the one for recorded executions. */
export function snapshotTable(snapshots: readonly VmSnapshotEntry[]): string {
  if (snapshots.length === 0) return "There is no snapshot available.\n";
  const rows = snapshots.map((one) => {
    const size = formatSize(one.memoryBytes).padStart(8);
    const times = localTime(one.takenMs).padStart(20) + clock(one.clockNs).padStart(13);
    return `${String(one.id).padEnd(9)} ${one.tag.padEnd(16)} ${size}${times}`;
  });
  const titles = "VM SIZE".padStart(8) + "DATE".padStart(20) + "VM CLOCK".padStart(13);
  const header = "ID".padEnd(10) + "TAG".padEnd(17) + titles;
  return [header, ...rows].map((text) => `${text}\n`).join("");
}

function take(line: string, rest: string[], count: { least: number; most: number }): string[] {
  if (rest.length >= count.least && rest.length <= count.most) return rest;
  const what = rest.length < count.least ? "a tag or id is missing" : "that is too much";
  throw new KelpieError("invalid", `${line.trim()}: ${what}`);
}

function described({ id, tag }: { id: number; tag: string }): string {
  return `snapshot ${id} "${tag}"`;
}

function localTime(ms: number): string {
  const date = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** "00:01:33.125" */
function clock(ns: number): string {
  const ms = Math.floor(ns / 1e6);
  const two = (value: number): string => String(Math.floor(value)).padStart(2, "0");
  const seconds = `${two((ms / 1000) % 60)}.${String(ms % 1000).padStart(3, "0")}`;
  return `${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${seconds}`;
}
