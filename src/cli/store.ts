import type { Command } from "commander";
import { formatSize } from "../base/sizes.ts";
import type { CallOutput } from "../control/calls.ts";
import type { Cli, CommandBody } from "./command.ts";
import { createProgressLine } from "./progress.ts";
import { addStoreCopy } from "./store-copy.ts";
import { formatFields, printable } from "./text.ts";
import { checkExitCode, describeCheck } from "./vdi-check.ts";

export function addStore(program: Command, cli: Cli): void {
  const store = program
    .command("store")
    .summary("look after the store itself")
    .description(
      "Looks after the store itself: space, checks, cleaning, and what is in its files.",
    );
  addInfo(store, cli);
  addCheck(store, cli);
  addInspect(store, cli);
  addClean(store, cli);
  addStoreCopy(store, cli);
}

function addInfo(store: Command, cli: Cli): void {
  store
    .command("info")
    .summary("show what the store holds and what space it takes")
    .action((_options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const info = await control.call("store.info", {});
        await printer.print(info, () => describeInfo(info));
        return 0;
      }),
    );
}

function addCheck(store: Command, cli: Cli): void {
  store
    .command("check")
    .summary("verify everything in the store")
    .description(
      `Verifies everything in the store: the catalog, every map, every block's checksum. Says what is
damaged and which disks that concerns. Exits with 1 if something is.

--repair corrects counts and removes what nothing needs. It brings no data back: a damaged block
stays an I/O error. A store that does not open because a log of it is damaged is opened with what is
before the damage; later writes are lost for good then, even flushed ones. Copy the store first.`,
    )
    .option("--repair", "repair counts and leaks; open without what is gone for good")
    .action((options: { repair?: boolean }, command: Command) => {
      const repair = options.repair === true;
      const check: CommandBody = async ({ control }, printer) => {
        const line = createProgressLine(cli.context, "store check");
        const result = await control
          .call("store.check", { repair }, { progress: line.update })
          .finally(line.done);
        await printer.print(result, () => describeCheck("store", result));
        return checkExitCode(result.findings);
      };
      // A store that lacks data does not open by itself: this is the command that says it may.
      return cli.onStore(command, check, { acceptDamage: repair });
    });
}

function addInspect(store: Command, cli: Cli): void {
  store
    .command("inspect")
    .summary("show a file of the store as text")
    .description(
      "Shows a file of the store as text, or with a / at the end the keys below a prefix.",
    )
    .argument("<key>", "a key, or a prefix that ends in /")
    .addHelpText(
      "after",
      `
Examples:
  kelpie store inspect catalog/
  kelpie store inspect catalog/0000000000000001`,
    )
    .action((key: string, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const result = await control.call("store.inspect", { key });
        await printer.print(result, () => result.lines.map(printable).join("\n"));
        return 0;
      }),
    );
}

function addClean(store: Command, cli: Cli): void {
  store
    .command("clean")
    .summary("return space that deleted and overwritten data takes")
    .description(
      `Returns the space of deleted and overwritten data now. A running server does that by itself, in
the background.`,
    )
    .action((_options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const line = createProgressLine(cli.context, "store clean");
        const result = await control
          .call("store.clean", {}, { progress: line.update })
          .finally(line.done);
        await printer.print(result, () => {
          const { freedBytes, usedBytes, liveBytes } = result;
          const sizes = `${formatSize(usedBytes)} used for ${formatSize(liveBytes)} of live data`;
          return `store: ${formatSize(freedBytes)} freed, ${sizes}`;
        });
        return 0;
      }),
    );
}

function describeInfo(info: CallOutput<"store.info">): string {
  return formatFields([
    ["Store", printable(info.url)],
    ["Id", info.id],
    ["Format", String(info.format)],
    ["State", info.state === "full" ? "full: writes are refused" : info.state],
    ["Disks", String(info.vdis)],
    ["Points", String(info.points)],
    ["Segments", String(info.segments)],
    ["Catalog records", String(info.catalogRecords)],
    ["Live data", formatSize(info.liveBytes)],
    ["Used", formatSize(info.usedBytes)],
    ["Free", `${formatSize(info.freeBytes)}, of which ${formatSize(info.reserveBytes)} in reserve`],
    ...remoteFields(info.remote),
  ]);
}

function remoteFields(remote: CallOutput<"store.info">["remote"]): [string, string][] {
  if (remote === undefined) return [];
  const { pendingBytes, cacheBytes, cacheBytesMax, cacheHits, cacheMisses } = remote;
  const kinds = Object.entries(remote.requests).map(([kind, { requests, failures }]) => {
    return `${requests} ${kind}${failures === 0 ? "" : ` (${failures} without success)`}`;
  });
  return [
    ["Not sent yet", formatSize(pendingBytes)],
    ["Cache", `${formatSize(cacheBytes)} of ${formatSize(cacheBytesMax)}`],
    ["Cache reads", `${cacheHits} here, ${cacheMisses} fetched`],
    ["Requests", kinds.join(", ")],
  ];
}
