import { resolve } from "node:path";
import type { Command } from "commander";
import { KelpieError } from "../base/errors.ts";
import { inSeconds, snapshotTable } from "../control/vm-commands.ts";
import type { VmEntry, VmSnapshotEntry } from "../control/vm-shapes.ts";
import type { Address } from "../host/net.ts";
import { formatAddress, parseAddress } from "./addresses.ts";
import type { Cli } from "./command.ts";
import { createProgressLine } from "./progress.ts";
import { formatTable, plural, printable } from "./text.ts";
import { addConsole, addMonitor } from "./vm-lines.ts";
import { addBranch, addRun } from "./vm-run.ts";
import { drawVmTree } from "./vm-tree.ts";

export function addVm(program: Command, cli: Cli): void {
  const vm = program
    .command("vm")
    .summary("save and restore running virtual machines")
    .description(
      `Works with running virtual machines: QEMU, whose disks are Kelpie's. A snapshot of a VM is of its
memory, its devices and all its disks, at one moment; to load it takes no restart.`,
    );
  const commands = [
    addRun,
    addAttach,
    addVmList,
    addSavevm,
    addLoadvm,
    addDelvm,
    addSnapshots,
    addBranch,
    addConsole,
    addMonitor,
    addStop,
    addDelete,
  ];
  for (const add of commands) add(vm, cli);
}

function addAttach(parent: Command, cli: Cli): void {
  parent
    .command("attach")
    .summary("take over a QEMU that runs")
    .description(
      `Takes over a QEMU that somebody else has started. Finds which of its drives are Kelpie's, and gives
it the disk that its memory is saved in. Every drive that the guest can write must be one of Kelpie's.`,
    )
    .argument("<name>", "a name for the VM")
    .option("--qmp <addr>", "its QMP monitor, unix:PATH or host:port; as before if left out")
    .option("--agent <addr>", "its socket of the guest agent's port, for vdi snapshot --quiesce")
    .option(
      "--leave-out <drive>",
      "a drive that is neither saved nor rolled back; repeatable",
      collect,
    )
    .option("--share", "although another VM has one of the disks")
    .addHelpText(
      "after",
      `
Example, of a QEMU started with -qmp unix:/run/vm7.qmp,server=on,wait=off:
  kelpie vm attach vm7 --qmp unix:/run/vm7.qmp`,
    )
    .action(
      (
        name: string,
        options: { qmp?: string; agent?: string; leaveOut?: string[]; share?: boolean },
        command: Command,
      ) =>
        cli.onStore(command, async ({ control }, printer) => {
          const { qmp, agent, leaveOut = [], share = false } = options;
          const vm = await control.call("vm.attach", {
            name,
            leaveOut,
            share,
            ...(qmp === undefined ? {} : { monitor: addressOf("--qmp", qmp) }),
            ...(agent === undefined ? {} : { agent: addressOf("--agent", agent) }),
          });
          await printer.print(vm, () => `${name}: attached, with ${disksText(vm)}`);
          return 0;
        }),
    );
}

/** The server may run in another directory. */
function addressOf(option: string, text: string): Address {
  const address = parseAddress(text);
  if (address === "off") throw new KelpieError("invalid", `${option} off: that is nowhere`);
  return address.kind === "unix" ? { ...address, path: resolve(address.path) } : address;
}

function addVmList(parent: Command, cli: Cli): void {
  parent
    .command("list")
    .summary("list VMs and whether they run")
    .action((_options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const vms = await control.call("vm.list", {});
        await printer.print(vms, () => vmTable(vms));
        return 0;
      }),
    );
}

function addSavevm(parent: Command, cli: Cli): void {
  parent
    .command("savevm")
    .summary("save a VM as it is now")
    .description(
      `Saves memory, devices and all disks of a running VM, of one moment. All or nothing: if anything
fails, the VM goes on as it was.`,
    )
    .argument("<name>", "the VM")
    .argument(
      "[tag]",
      "a tag for the snapshot; else it is called after the time, vm-20260301140509",
    )
    .option("--replace", "in place of the snapshot of that tag, if there is one")
    .action(
      (name: string, tag: string | undefined, options: { replace?: boolean }, command: Command) =>
        cli.onStore(command, async ({ control }, printer) => {
          const line = createProgressLine(cli.context, `savevm ${name}`);
          const input = {
            name,
            replace: options.replace === true,
            ...(tag === undefined ? {} : { tag }),
          };
          const result = await control
            .call("vm.savevm", input, { progress: line.update })
            .finally(line.done);
          await printer.print(
            result,
            () => `${name}: saved ${snapshotText(result.snapshot)}, ${inSeconds(result)}`,
          );
          return 0;
        }),
    );
}

function addLoadvm(parent: Command, cli: Cli): void {
  parent
    .command("loadvm")
    .summary("put a VM back to a snapshot")
    .description(
      `Puts memory, devices and all disks of a VM back to a snapshot, to any it has, while its QEMU
runs on. What the VM was is lost, unless it was saved; its disks as they were can be brought back
with "vdi undelete".`,
    )
    .argument("<name>", "the VM")
    .argument("<snapshot>", "tag or id")
    .action((name: string, snapshot: string, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const line = createProgressLine(cli.context, `loadvm ${name}`);
        const result = await control
          .call("vm.loadvm", { name, snapshot }, { progress: line.update })
          .finally(line.done);
        await printer.print(
          result,
          () => `${name}: back at ${snapshotText(result.snapshot)}, ${inSeconds(result)}`,
        );
        return 0;
      }),
    );
}

function addDelvm(parent: Command, cli: Cli): void {
  parent
    .command("delvm")
    .summary("delete a snapshot of a VM")
    .description("Deletes a snapshot of a VM: its disks' snapshots and its memory together.")
    .argument("<name>", "the VM")
    .argument("<snapshot>", "tag or id")
    .action((name: string, snapshot: string, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const result = await control.call("vm.delvm", { name, snapshot });
        await printer.print(result, () => `${name}: deleted ${snapshotText(result.deleted)}`);
        return 0;
      }),
    );
}

function addSnapshots(parent: Command, cli: Cli): void {
  parent
    .command("snapshots")
    .summary("list the snapshots of a VM")
    .argument("<name>", "the VM")
    .option("--tree", "draw which stands on which")
    .action((name: string, options: { tree?: boolean }, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const snapshots = await control.call("vm.snapshots", { name });
        await printer.print(snapshots, () =>
          options.tree === true
            ? drawVmTree(name, snapshots, cli.context.stdout.columns)
            : snapshotTable(snapshots),
        );
        return 0;
      }),
    );
}

function addStop(parent: Command, cli: Cli): void {
  parent
    .command("stop")
    .summary("shut a VM down")
    .description("Asks the guest to shut down, as its power button does, and waits until it has.")
    .argument("<name>", "the VM")
    .option("--force", "end its QEMU at once")
    .option("--timeout <seconds>", "how long it may take", "60")
    .action((name: string, options: { force?: boolean; timeout: string }, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const timeoutMs = Number(options.timeout) * 1000;
        if (!(timeoutMs >= 0)) {
          throw new KelpieError(
            "invalid",
            `--timeout ${options.timeout}: it is a number of seconds`,
          );
        }
        const force = options.force === true;
        const result = await control.call("vm.stop", { name, force, timeoutMs });
        await printer.print(result, () => `${name}: ${result.stopped ? "stopped" : "was off"}`);
        return 0;
      }),
    );
}

function addDelete(parent: Command, cli: Cli): void {
  parent
    .command("delete")
    .summary("forget a VM that is off, with its snapshots")
    .description("Deletes a VM's snapshots and saved memory, and forgets the VM. Its disks stay.")
    .argument("<name>", "the VM")
    .option("--disks", "delete its disks, too; they can be brought back for a while")
    .action((name: string, options: { disks?: boolean }, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const result = await control.call("vm.delete", { name, disks: options.disks === true });
        await printer.print(result, () => `${name}: deleted`);
        return 0;
      }),
    );
}

function vmTable(vms: readonly VmEntry[]): string {
  const rows = vms.map((vm) => [
    printable(vm.name),
    vm.state,
    String(vm.snapshots),
    printable(vm.current ?? ""),
    vm.disks.map(printable).join(","),
    formatAddress(vm.monitor),
  ]);
  return formatTable(["Name", "State", "Snapshots", "Stands on", "Disks", "Monitor"], rows, [
    "Snapshots",
  ]);
}

function disksText({ disks }: VmEntry): string {
  return `${plural(disks.length, "disk")}: ${disks.map(printable).join(", ") || "none"}`;
}

function snapshotText({ id, tag }: VmSnapshotEntry): string {
  return `snapshot ${id} ${printable(tag)}`;
}

function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}
