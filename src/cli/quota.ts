import type { Command } from "commander";
import { formatSize, parseSize } from "../base/sizes.ts";
import type { CallOutput } from "../control/calls.ts";
import type { Cli } from "./command.ts";
import { formatTable, printable } from "./text.ts";

export function addQuota(program: Command, cli: Cli): void {
  const quota = program
    .command("quota")
    .summary("limit the space of disks by their names")
    .description(
      `Limits the space that disks take together, by a pattern for their names. A disk counts what its working
VDI maps and what only its snapshots hold. When a quota is used up writes get "no space"; the server's
log has a warning at nine tenths of it.`,
    );
  addSet(quota, cli);
  addList(quota, cli);
}

function addSet(parent: Command, cli: Cli): void {
  parent
    .command("set")
    .summary("set a quota, change it, or lift it")
    .argument("<pattern>", 'names; * stands for any characters, so "web-*" or "*"')
    .argument("<size>", "100G; or off")
    .action((pattern: string, size: string, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const limitBytes = size === "off" ? null : parseSize(size);
        await control.call("quota.set", { pattern, limitBytes });
        await printer.print({ pattern, limitBytes }, () =>
          limitBytes === null
            ? `${printable(pattern)}: no quota`
            : `${printable(pattern)}: ${formatSize(limitBytes)}`,
        );
        return 0;
      }),
    );
}

function addList(parent: Command, cli: Cli): void {
  parent
    .command("list")
    .summary("show the quotas, and what is used of them")
    .action((_options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const quotas = await control.call("quota.list", {});
        await printer.print(quotas, () => describe(quotas));
        return 0;
      }),
    );
}

function describe(quotas: CallOutput<"quota.list">): string {
  const rows = quotas.map(({ pattern, limitBytes, usedBytes, disks }) => [
    printable(pattern),
    String(disks),
    formatSize(usedBytes),
    formatSize(limitBytes),
    `${Math.floor((100 * usedBytes) / Math.max(1, limitBytes))} %`,
  ]);
  const header = ["Names", "Disks", "Used", "Quota", "Share"];
  return formatTable(header, rows, ["Disks", "Used", "Quota", "Share"]);
}
