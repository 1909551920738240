import type { Command } from "commander";
import { KelpieError } from "../base/errors.ts";
import type { VdiEntry } from "../control/calls.ts";
import type { Cli } from "./command.ts";
import { exportNameOf } from "./session.ts";
import { checkSnapshot } from "./snapshot-name.ts";
import { plural, printable } from "./text.ts";

interface SnapshotOptions {
  snapshot?: string;
  quiesce?: boolean;
  wait?: boolean;
}

export function addSnapshot(parent: Command, cli: Cli): void {
  parent
    .command("snapshot")
    .summary("freeze disks as they are now")
    .description(
      `Takes a snapshot. Several disks are frozen at the same moment, in one step. A disk that is being
written is not stopped for it: what a guest has only in its memory is not in the snapshot. With
--quiesce it is: the agent in the guest of the disks' VM writes all of it out, and holds writes back
until the snapshot is taken.`,
    )
    .argument("<name...>", "one disk, or several")
    .option("-s, --snapshot <tag>", "a tag for the snapshot; not a number, because numbers are ids")
    .option("--quiesce", "with the VM's file systems frozen by the agent in its guest")
    .option("--wait", "in an object store: until all of it is there")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi snapshot disk1                    known by its id, 1, 2, 3 …
  kelpie vdi snapshot disk1 -s installed
  kelpie vdi snapshot root data -s monday      both at the same moment
  kelpie vdi snapshot root data --quiesce      needs no repair when it is mounted`,
    )
    .action((names: string[], options: SnapshotOptions, command: Command) => {
      const { snapshot: tag, quiesce = false, wait = false } = options;
      if (tag !== undefined) checkTag(tag);
      return cli.onStore(command, async ({ control }, printer) => {
        const input = { names, quiesce, wait, ...(tag === undefined ? {} : { tag }) };
        const entries = await control.call("vdi.snapshot", input);
        await printer.print(entries, () => entries.map(describeSnapshot).join("\n"));
        return 0;
      });
    });
}

export function addClone(parent: Command, cli: Cli): void {
  parent
    .command("clone")
    .summary("make a new disk from a snapshot")
    .description("Makes a new disk that begins as a snapshot and shares its data. Copies nothing.")
    .argument("<src>", "the disk whose snapshot it is")
    .argument("<dst>", "name of the new disk")
    .requiredOption("-s, --snapshot <tag>", "tag or id of the snapshot")
    .addHelpText(
      "after",
      `
Example:
  kelpie vdi clone -s installed golden vm7`,
    )
    .action((source: string, name: string, options: { snapshot: string }, command: Command) => {
      const snapshot = checkSnapshot(options.snapshot);
      return cli.onStore(command, async ({ control }, printer) => {
        const entry = await control.call("vdi.clone", { source, snapshot, name });
        await printer.print(
          entry,
          () => `${printable(name)}: cloned from ${printable(exportNameOf(source, snapshot))}`,
        );
        return 0;
      });
    });
}

export function addRollback(parent: Command, cli: Cli): void {
  parent
    .command("rollback")
    .summary("put disks back to a snapshot")
    .description(
      `Puts a disk back to a snapshot, to any of them; newer ones stay. Several disks go back in one
step. What the disk held is set aside, and "vdi undelete" brings it back. A disk that is attached is
refused without --live.`,
    )
    .argument("<name...>", "one disk, or several")
    .requiredOption("-s, --snapshot <tag>", "tag or id of the snapshot")
    .option("--live", "even while a client has it open; that client must be ready for it")
    .option("-f, --force", "accepted for scripts written for dog; nothing asks here")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi rollback disk1 -s installed
  kelpie vdi rollback root data -s monday
  kelpie vdi undelete disk1                    undoes it`,
    )
    .action((names: string[], options: { snapshot: string; live?: boolean }, command: Command) => {
      const snapshot = checkSnapshot(options.snapshot);
      return cli.onStore(command, async ({ control }, printer) => {
        const live = options.live === true;
        const entries = await control.call("vdi.rollback", { names, snapshot, live });
        await printer.print(entries, () =>
          entries.map(({ name }) => `${printable(name)}: back at ${snapshot}`).join("\n"),
        );
        return 0;
      });
    });
}

export function addDelete(parent: Command, cli: Cli): void {
  parent
    .command("delete")
    .summary("delete a disk, or one snapshot of it")
    .description(
      `Deletes a disk, or with -s one of its snapshots, wherever it is in the history. Snapshots of a
deleted disk stay. A deleted disk can be brought back for a while; a deleted snapshot cannot.`,
    )
    .argument("<name>", "the disk")
    .option("-s, --snapshot <tag>", "tag or id of the snapshot to delete instead")
    .option("-f, --force", "accepted for scripts written for dog; nothing asks here")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi delete disk1 -s monday
  kelpie vdi delete disk1
  kelpie vdi undelete disk1            undoes the second`,
    )
    .action((name: string, options: { snapshot?: string }, command: Command) => {
      const snapshot =
        options.snapshot === undefined ? {} : { snapshot: checkSnapshot(options.snapshot) };
      return cli.onStore(command, async ({ control }, printer) => {
        const result = await control.call("vdi.delete", { name, ...snapshot });
        const target = printable(exportNameOf(name, snapshot.snapshot));
        await printer.print(result, () => `${target}: deleted`);
        return 0;
      });
    });
}

export function addUndelete(parent: Command, cli: Cli): void {
  parent
    .command("undelete")
    .summary("bring back what rollback or delete has set aside")
    .description(
      `Brings back what a rollback or a delete has set aside, the newest if --id does not say which.
The disk of that name changes places with it, so a second undelete undoes the first; with --as it
comes back beside it, under another name.`,
    )
    .argument("<name>", "the disk")
    .option("--id <id>", "which one: the Id in vdi list --discarded", parseId)
    .option("--as <new>", "give it this name")
    .option("--live", "even while a client has the disk open")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi list --discarded
  kelpie vdi undelete disk1
  kelpie vdi undelete disk1 --id 17 --as disk1-before`,
    )
    .action(
      (name: string, options: { id?: number; as?: string; live?: boolean }, command: Command) =>
        cli.onStore(command, async ({ control }, printer) => {
          const entry = await control.call("vdi.undelete", {
            name,
            live: options.live === true,
            ...(options.id === undefined ? {} : { point: options.id }),
            ...(options.as === undefined ? {} : { as: options.as }),
          });
          await printer.print(entry, () => `${printable(entry.name)}: brought back`);
          return 0;
        }),
    );
}

export function addPurge(parent: Command, cli: Cli): void {
  parent
    .command("purge")
    .summary("give up for good what was set aside")
    .description(
      `Gives up for good what rollback and delete have set aside, now and not when its time has come.
This cannot be undone.`,
    )
    .argument("[name]", "only of this disk")
    .action((name: string | undefined, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const result = await control.call("vdi.purge", name === undefined ? {} : { name });
        // Nothing to purge is no failure, but there must be a disk of that name.
        if (name !== undefined && result.purged === 0) await control.call("vdi.list", { name });
        await printer.print(result, () => `purged ${plural(result.purged, "discarded disk")}`);
        return 0;
      }),
    );
}

function checkTag(tag: string): void {
  if (tag === "") throw new KelpieError("invalid", "the tag is empty");
  if (/^#?\d+$/.test(tag)) {
    throw new KelpieError("invalid", `tag ${tag}: a number names a snapshot by its id`, {
      remedy: `give it a letter, for example -s v${tag.replace("#", "")}`,
    });
  }
}

function parseId(text: string): number {
  const id = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(id) && id > 0) return id;
  throw new KelpieError("invalid", `id "${text}": it is a number, the Id in vdi list --discarded`);
}

function describeSnapshot(entry: VdiEntry): string {
  const tag = entry.tag === "" ? "" : ` ${printable(entry.tag)}`;
  return `${printable(entry.name)}: snapshot #${entry.snapId}${tag}`;
}
