import type { Command } from "commander";
import type { LockEntry } from "../control/calls.ts";
import type { Cli } from "./command.ts";
import { findPoint } from "./snapshot-name.ts";
import { formatTable, printable } from "./text.ts";

export function addLock(parent: Command, cli: Cli): void {
  const lock = parent
    .command("lock")
    .summary("look at what Sheepdog's clients have locked, and break a lock")
    .description(
      `Looks at what Sheepdog's clients have locked, and breaks a lock. There are locks only with
"kelpie serve --lock", or in a store formatted with them; they go with their owner's connection.`,
    );
  addLockList(lock, cli);
  addLockBreak(lock, cli);
}

function addLockList(parent: Command, cli: Cli): void {
  parent
    .command("list")
    .summary("list what is locked, and by whom")
    .argument("[name]", "only this disk and its snapshots")
    .action((name: string | undefined, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const locks = await control.call("vdi.locks", name === undefined ? {} : { name });
        await printer.print(locks, () => describe(locks));
        return 0;
      }),
    );
}

function addLockBreak(parent: Command, cli: Cli): void {
  parent
    .command("break")
    .summary("take a lock away from whoever has it")
    .description(
      `Takes a lock away from whoever has it, so that others can open the disk. The client is not told,
and goes on if it is still there: two that write one disk destroy it.`,
    )
    .argument("<name>", "the disk; NAME@TAG for a snapshot of it")
    .option("-s, --snapshot <tag>", "tag or id of a snapshot")
    .action((name: string, options: { snapshot?: string }, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const point = await findPoint(control, name, options.snapshot);
        const broken = await control.call("vdi.breakLock", point);
        const owners = broken.owners.map(printable).join(", ");
        await printer.print(broken, () => `It was locked by ${owners}.\n`);
        return 0;
      }),
    );
}

function describe(locks: readonly LockEntry[]): string {
  const rows = locks.map(({ name, snapId, tag, shared, owners }) => [
    printable(name),
    snapId === null ? "" : String(snapId),
    printable(tag),
    shared ? "shared" : "exclusive",
    owners.map(printable).join(", "),
  ]);
  return formatTable(["Name", "Id", "Tag", "Lock", "Owner"], rows, ["Id"]);
}
