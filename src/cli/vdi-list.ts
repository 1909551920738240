import type { Command } from "commander";
import { formatSize } from "../base/sizes.ts";
import type { DiscardedEntry, VdiEntry } from "../control/calls.ts";
import type { Cli } from "./command.ts";
import { formatTable, formatTime, printable } from "./text.ts";

export function addList(parent: Command, cli: Cli): void {
  parent
    .command("list")
    .summary("list disks and their snapshots")
    .description(
      `Lists disks and their snapshots: "s" marks a snapshot, "c" a clone. Used is what a point alone
holds, and what deleting it returns; Shared is what it holds together with others. VM is the one
whose disk it is, or to whose snapshot it belongs.`,
    )
    .argument("[name]", "only this disk")
    .option("--discarded", "list what rollback and delete have set aside instead")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi list
  kelpie vdi list disk1 --json
  kelpie vdi list --discarded       what "vdi undelete" can bring back, and until when`,
    )
    .action((name: string | undefined, options: { discarded?: boolean }, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const input = name === undefined ? {} : { name };
        if (options.discarded === true) {
          const entries = await control.call("vdi.discarded", input);
          await printer.print(entries, () => discardedTable(entries));
          return 0;
        }
        const entries = await control.call("vdi.list", input);
        await printer.print(entries, () => vdiTable(entries));
        return 0;
      }),
    );
}

/** The columns of `dog vdi list`, less those of replication. The VDI id is the number of the point. */
export function vdiTable(entries: readonly VdiEntry[]): string {
  // Where there are no VMs nothing is said of them.
  const ofVms = entries.some(({ vm }) => vm !== undefined);
  // Nor, where all of it is, of what is in the object store.
  const isSending = entries.some(({ pending }) => pending === true);
  const rows = entries.map((entry) => [
    `${kindOf(entry)} ${printable(entry.name)}`,
    // As in dog: the working VDI has no id yet.
    entry.kind === "snapshot" ? String(entry.snapId) : "0",
    formatSize(entry.sizeBytes),
    formatSize(entry.exclusiveBytes),
    formatSize(entry.sharedBytes),
    formatTime(entry.createdMs),
    String(entry.point),
    printable(entry.tag),
    ...(ofVms ? [printable(entry.vm ?? "")] : []),
    ...(isSending ? [entry.pending === true ? "not yet" : "yes"] : []),
  ]);
  const header = [...vdiHeader, ...(ofVms ? ["VM"] : []), ...(isSending ? ["Sent"] : [])];
  return formatTable(header, rows, ["Id", "Size", "Used", "Shared", "VDI id"]);
}

export function discardedTable(entries: readonly DiscardedEntry[]): string {
  const rows = entries.map((entry) => [
    printable(entry.name),
    String(entry.point),
    entry.why,
    formatSize(entry.sizeBytes),
    formatSize(entry.exclusiveBytes),
    formatTime(entry.discardedMs),
    formatTime(entry.purgeMs),
  ]);
  return formatTable(discardedHeader, rows, ["Id", "Size", "Used"]);
}

const vdiHeader = ["  Name", "Id", "Size", "Used", "Shared", "Creation time", "VDI id", "Tag"];
const discardedHeader = ["Name", "Id", "Why", "Size", "Used", "Discarded", "Purged after"];

function kindOf(entry: VdiEntry): string {
  if (entry.kind === "snapshot") return "s";
  return entry.clone ? "c" : " ";
}
