import type { Command } from "commander";
import { KelpieError } from "../base/errors.ts";
import { shellCommand } from "../base/shell-words.ts";
import { formatSize } from "../base/sizes.ts";
import { type CopyResult, VdiCopy } from "../control/vdi-copy.ts";
import { describePoints, type PointEntry } from "../sheepdog/client-points.ts";
import { formatClusterUri, parseSheepdogUri } from "../sheepdog/client-uri.ts";
import { clusterStoreOf, openCluster } from "./cluster-store.ts";
import type { Cli, GlobalOptions } from "./command.ts";
import { copyNotes } from "./copy-notes.ts";
import { createProgressLine } from "./progress.ts";
import type { Session } from "./session.ts";
import { plural, printable } from "./text.ts";

interface CopyOptions extends GlobalOptions {
  all?: boolean;
}

export function addCopy(parent: Command, cli: Cli): void {
  parent
    .command("copy")
    .summary("copy disks of a Sheepdog cluster, with their snapshots")
    .description(
      `Copies a disk of a Sheepdog cluster into this store, with all its snapshots, their tags, ids and
times. Of each snapshot only what differs from the one it stands on is copied. Nobody may write the
original meanwhile. A copy that was interrupted goes on when the same command is given again.`,
    )
    .argument("<source>", "sheepdog://host:port/NAME; with --all sheepdog://host:port")
    .argument("[name]", "name of the copy; else that of the original")
    .option("--all", "copy all disks of the cluster, and keep which stands on which")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi copy sheepdog://10.0.0.7:7000/debian debian
  kelpie vdi copy --all sheepdog://10.0.0.7,10.0.0.8
  kelpie vdi copy 'sheepdog+unix:///debian?socket=/var/lib/sheepdog/sock'`,
    )
    .action((source: string, name: string | undefined, _options: object, command: Command) => {
      const options = command.optsWithGlobals<CopyOptions>();
      const wanted = wantedOf(source, name, options.all === true);
      refuseCluster(cli, options.store);
      return cli.onStore(
        command,
        async (session, printer) => {
          const result = await copy(wanted, { cli, session });
          await printer.print(result, () => describe(result));
          return 0;
        },
        { create: true },
      );
    });
}

interface Wanted {
  nodes: Parameters<typeof formatClusterUri>[0];
  url: string;
  /** Undefined: all of them. */
  from: string | undefined;
  to: string | undefined;
}

function wantedOf(source: string, name: string | undefined, all: boolean): Wanted {
  const { nodes, name: from, snapshot } = parseSheepdogUri(source);
  if (snapshot !== undefined) {
    throw new KelpieError("invalid", `${source}: a disk is copied with all its snapshots`);
  }
  const url = formatClusterUri(nodes);
  if (all && (from !== undefined || name !== undefined)) {
    throw new KelpieError("invalid", "--all copies every disk, under its name", {
      remedy: shellCommand("kelpie", "vdi", "copy", "--all", url),
    });
  }
  if (all || from !== undefined) return { nodes, url, from, to: name };
  throw new KelpieError("invalid", `${source}: it names no disk`, {
    remedy: `name one, ${url}/NAME, or say --all`,
  });
}

function refuseCluster(cli: Cli, store: string | undefined): void {
  const cluster = clusterStoreOf(cli.context, store);
  if (cluster === undefined) return;
  throw new KelpieError("unsupported", `${cluster.url}: copies go into a store of Kelpie's`);
}

async function copy(
  wanted: Wanted,
  { cli, session }: { cli: Cli; session: Session },
): Promise<CopyResult> {
  const { url, from, to } = wanted;
  const { context } = cli;
  // By its identity: of what is in another store of the same path, or name, nothing is ours.
  const { id } = await session.control.call("store.info", {});
  const cluster = await openCluster(context, wanted);
  const line = createProgressLine(context, `copy ${printable(from ?? url)}`);
  const warnings: string[] = [];
  try {
    const { client } = cluster.vdis;
    const points = await pointsOf(await describePoints(client), from, url);
    const notes = copyNotes(context, [url, from ?? "", id, to ?? ""]);
    const request = {
      points,
      nameOf: (name: string) => (name === from ? (to ?? name) : name),
      progress: line.update,
      warn: (message: string) => warnings.push(message),
      signal: context.signal,
    };
    return await new VdiCopy(request, { client, target: session, notes }).run();
  } finally {
    line.done();
    for (const warning of warnings) await context.stderr.write(`kelpie: ${warning}\n`);
    await cluster.close();
  }
}

function pointsOf(
  points: readonly PointEntry[],
  name: string | undefined,
  url: string,
): readonly PointEntry[] {
  if (name === undefined) return points;
  const found = points.filter((point) => point.name === name);
  if (found.length > 0) return found;
  throw new KelpieError("not-found", `${url} has no disk "${name}"`, {
    remedy: `${shellCommand("kelpie", "--store", url, "vdi", "list")} shows what there is`,
  });
}

function describe({ disks, snapshots, copiedBytes }: CopyResult): string {
  const what = `${plural(disks, "disk")} with ${plural(snapshots, "snapshot")}`;
  return `copied ${what}, ${formatSize(copiedBytes)} of objects`;
}
