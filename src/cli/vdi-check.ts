import type { Command } from "commander";
import { formatSize } from "../base/sizes.ts";
import type { CallOutput, Finding } from "../control/calls.ts";
import type { Cli } from "./command.ts";
import { exitCode } from "./exit-codes.ts";
import { createProgressLine } from "./progress.ts";
import { exportNameOf } from "./session.ts";
import { findPoint } from "./snapshot-name.ts";
import { plural, printable } from "./text.ts";

export function addCheck(parent: Command, cli: Cli): void {
  parent
    .command("check")
    .summary("read a whole disk and verify its checksums")
    .description(
      "Reads every block of a disk and verifies its checksum. Exits with 1 if one is damaged.",
    )
    .argument("<name>", "the disk; NAME@TAG for a snapshot of it")
    .option("-s, --snapshot <tag>", "tag or id of a snapshot")
    .action((name: string, options: { snapshot?: string }, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const point = await findPoint(control, name, options.snapshot);
        const target = printable(exportNameOf(point.name, point.snapshot));
        const line = createProgressLine(cli.context, `check ${target}`);
        const result = await control
          .call("vdi.check", point, { progress: line.update })
          .finally(line.done);
        await printer.print(result, () => describeCheck(target, result));
        return checkExitCode(result.findings);
      }),
    );
}

export function addFlatten(parent: Command, cli: Cli): void {
  parent
    .command("flatten")
    .summary("make a disk stand on nothing")
    .description(
      `Copies what a disk shares with the snapshots it stands on, so that it stands on nothing. Its
snapshots stay as they are, in the family it has left.`,
    )
    .argument("<name>", "the disk")
    .action((name: string, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const line = createProgressLine(cli.context, `flatten ${printable(name)}`);
        const entry = await control
          .call("vdi.flatten", { name }, { progress: line.update })
          .finally(line.done);
        await printer.print(
          entry,
          () => `${printable(name)}: stands on nothing, ${formatSize(entry.exclusiveBytes)} used`,
        );
        return 0;
      }),
    );
}

export function describeCheck(target: string, result: CallOutput<"store.check">): string {
  const findings = result.findings.map(({ severity, object, message }) => {
    return `${severity}: ${printable(object)}: ${printable(message)}\n`;
  });
  const verdict =
    result.findings.length === 0 ? "no damage" : plural(result.findings.length, "finding");
  return `${findings.join("")}${target}: ${formatSize(result.checkedBytes)} checked, ${verdict}`;
}

/** Leaks cost space and notes cost nothing; damage is a failure. */
export function checkExitCode(findings: readonly Finding[]): number {
  const damaged = findings.some(({ severity }) => severity === "damage");
  return damaged ? exitCode.failure : exitCode.success;
}
