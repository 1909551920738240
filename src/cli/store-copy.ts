import type { Command } from "commander";
import { KelpieError } from "../base/errors.ts";
import { formatSize } from "../base/sizes.ts";
import { type Cli, createPrinter, type GlobalOptions } from "./command.ts";
import type { CliContext } from "./context.ts";
import { createProgressLine } from "./progress.ts";
import { isS3Url, s3OptionsOf } from "./s3-place.ts";
import { s3UrlOf, storeDirectory } from "./session.ts";
import { plural, printable } from "./text.ts";

export function addStoreCopy(store: Command, cli: Cli): void {
  store
    .command("copy")
    .summary("copy a store to another place, such as an object store")
    .description(
      `Copies a whole store, with all its disks and snapshots, between a directory and an object store, or
between two of either. No server may have it open. If it is interrupted, the same command goes on
where it was; there is no store at the new place before all of it is there.`,
    )
    .argument("<src>", "a directory, or s3://bucket/prefix")
    .argument("<dst>", "the same; nothing may be there")
    .addHelpText(
      "after",
      `
Examples:
  kelpie store copy /srv/disks s3://bucket/disks
  kelpie store copy s3://bucket/disks /srv/disks --s3-endpoint http://127.0.0.1:7480`,
    )
    .action((source: string, target: string, _options: object, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      return cli.run(() => copy(cli.context, { source, target, options }));
    });
}

async function copy(
  context: CliContext,
  { source, target, options }: { source: string; target: string; options: GlobalOptions },
): Promise<number> {
  const s3 = s3OptionsOf(options);
  const directory = storeDirectory(context, source, options.local);
  const url = s3UrlOf(context, source) ?? directory;
  const place = isS3Url(target) ? target.replace(/\/+$/, "") : storeDirectory(context, target);
  if (place === url) throw new KelpieError("invalid", "a store cannot be copied onto itself");
  const { host } = context;
  const opened = await context.openLocal(url, { host, create: false, directory, s3 });
  try {
    if (opened.copyTo === undefined) {
      throw new KelpieError("unsupported", `${source}: only stores of Kelpie's are copied whole`);
    }
    const line = createProgressLine(context, "store copy");
    const result = await opened
      .copyTo(place, { s3, progress: line.update, signal: context.signal })
      .finally(line.done);
    const { objects, bytes, found } = result;
    await createPrinter(context, options.json === true).print(result, () => {
      const before = found === 0 ? "" : `, ${found} of them before`;
      return `${printable(place)}: ${plural(objects, "object")} copied${before}, ${formatSize(bytes)}`;
    });
    return 0;
  } finally {
    await opened.close();
  }
}
