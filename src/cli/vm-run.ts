import { resolve } from "node:path";
import type { Command } from "commander";
import type { VmEntry } from "../control/vm-shapes.ts";
import { branchVm, runVm } from "../control/vm-start.ts";
import type { Cli } from "./command.ts";
import { plural, printable } from "./text.ts";

interface RunOptions {
  memory?: string;
  disk?: string[];
  leaveOut?: string[];
  share?: boolean;
}

export function addRun(parent: Command, cli: Cli): void {
  parent
    .command("run")
    .summary("start a VM on Kelpie disks")
    .description(
      `Starts QEMU in the background with its disks on Kelpie. KVM is used where it can be; there is a
network through QEMU itself, no display, and a serial line that "vm console" shows. What comes after --
goes to QEMU, and takes the place of these. A VM that has run before is started as it was.`,
    )
    .argument("<name>", "the VM")
    .argument("[qemu...]", "after --: more arguments for QEMU")
    .option("--memory <size>", "as QEMU's -m takes it; 1G if it has never run")
    .option("--disk <vdi,...>", "its disks, the first one to boot from; repeatable", collectDisks)
    .option(
      "--leave-out <drive>",
      "a drive that is neither saved nor rolled back; repeatable",
      collect,
    )
    .option("--share", "although another VM has one of the disks, for live migration")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vm run vm1 --memory 2G --disk root,data
  kelpie vm run vm1 --disk root -- -vnc :1 -cdrom install.iso
  kelpie vm run vm1                            again, as it was`,
    )
    .action((name: string, more: string[], options: RunOptions, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const { memory, disk: disks, leaveOut, share } = options;
        const request = {
          name,
          directory: resolve("."),
          ...(memory === undefined ? {} : { memory }),
          ...(disks === undefined ? {} : { disks }),
          ...(leaveOut === undefined ? {} : { leaveOut }),
          ...(share === undefined ? {} : { share }),
          ...(more.length === 0 ? {} : { arguments: more }),
        };
        const { processes } = cli.context.host;
        const vm = await runVm(request, { control, processes });
        await printer.print(vm, () => describeRunning(vm));
        return 0;
      }),
    );
}

export function addBranch(parent: Command, cli: Cli): void {
  parent
    .command("branch")
    .summary("start a second VM from a snapshot of a first")
    .description(
      `Starts a second VM that goes on from a snapshot of the first, which is not disturbed. It has clones
of the first one's disks, called NEW-DISK, and the same arguments of QEMU, unless others are given.`,
    )
    .argument("<name>", "the first VM")
    .argument("<snapshot>", "tag or id")
    .argument("<new>", "a name for the second")
    .argument("[qemu...]", "after --: arguments for QEMU in place of the first one's")
    .action(
      (
        name: string,
        snapshot: string,
        as: string,
        more: string[],
        _options: object,
        command: Command,
      ) =>
        cli.onStore(command, async ({ control }, printer) => {
          const { processes } = cli.context.host;
          const args = more.length === 0 ? {} : { arguments: more };
          const vm = await branchVm({ name, snapshot, as, ...args }, { control, processes });
          await printer.print(vm, () => describeRunning(vm));
          return 0;
        }),
    );
}

function describeRunning({ name, state, disks }: VmEntry): string {
  const list = disks.map(printable).join(", ");
  return `${name}: ${state}, with ${plural(disks.length, "disk")}: ${list}
kelpie vm console ${name} shows its serial line; kelpie vm monitor ${name} is QEMU's monitor`;
}

function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

function collectDisks(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), ...value.split(",").filter((name) => name !== "")];
}
