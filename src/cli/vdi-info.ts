import type { Command } from "commander";
import { exactSize, formatSize } from "../base/sizes.ts";
import type { CallOutput } from "../control/calls.ts";
import type { Cli } from "./command.ts";
import { findPoint } from "./snapshot-name.ts";
import { formatFields, formatTime, plural, printable } from "./text.ts";
import { describeQos } from "./vdi-qos.ts";

export function addInfo(parent: Command, cli: Cli): void {
  parent
    .command("info")
    .summary("show a disk, and who has it open")
    .description(
      "Shows a disk or one of its snapshots: sizes, space, snapshots, and who has it open.",
    )
    .argument("<name>", "the disk; NAME@TAG for a snapshot of it")
    .option("-s, --snapshot <tag>", "tag or id of a snapshot")
    .action((name: string, options: { snapshot?: string }, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const point = await findPoint(control, name, options.snapshot);
        const info = await control.call("vdi.info", point);
        await printer.print(info, () => describe(info));
        return 0;
      }),
    );
}

function sheepdogFields(view: { vid: number; besideBytes: number }): [string, string][] {
  const { vid, besideBytes } = view;
  const fields: [string, string][] = [["Sheepdog vid", vid.toString(16)]];
  if (besideBytes > 0) fields.push(["Machine state", `${formatSize(besideBytes)} beside the disk`]);
  return fields;
}

function describe(info: CallOutput<"vdi.info">): string {
  const { entry } = info;
  const isSnapshot = entry.kind === "snapshot";
  const kind = isSnapshot ? "snapshot" : entry.clone ? "working VDI, a clone" : "working VDI";
  const fields: [string, string][] = [
    ["Name", printable(entry.name)],
    ["Kind", kind],
    ...(isSnapshot
      ? [
          ["Snapshot id", String(entry.snapId)] satisfies [string, string],
          ["Tag", printable(entry.tag) || "none"] satisfies [string, string],
        ]
      : []),
    ["Size", `${formatSize(entry.sizeBytes)} (${exactSize(entry.sizeBytes)})`],
    ["Mapped", formatSize(entry.mappedBytes)],
    ["Used", `${formatSize(entry.exclusiveBytes)}, which only this point holds`],
    ["Shared", formatSize(entry.sharedBytes)],
    ["Created", formatTime(entry.createdMs)],
    ["VDI id", String(entry.point)],
    ["Stands on", entry.parent === null ? "nothing" : `VDI id ${entry.parent}`],
    ["Snapshots", String(info.snapshots)],
    ...(info.qos === undefined
      ? []
      : [["Limits", describeQos(info.qos)] satisfies [string, string]]),
    ["Discarded", plural(info.discarded.length, "version")],
    ...(info.sheepdog === undefined ? [] : sheepdogFields(info.sheepdog)),
    ["Open by", plural(info.clients.length, "client")],
  ];
  const clients = info.clients.map(({ protocol, peer, export: name, readOnly }) => {
    return `  ${protocol} ${printable(peer)}, ${printable(name)}${readOnly ? ", read-only" : ""}\n`;
  });
  return formatFields(fields) + clients.join("");
}
