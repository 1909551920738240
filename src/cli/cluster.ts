import type { Command } from "commander";
import { KelpieError } from "../base/errors.ts";
import {
  type ClusterHistory,
  clusterFlag,
  formatCluster,
  readEpochs,
  shutDownCluster,
} from "../sheepdog/client-cluster.ts";
import { isRefused } from "../sheepdog/client-errors.ts";
import { listPoints } from "../sheepdog/client-list.ts";
import { storeName as kelpieStore } from "../sheepdog/cluster.ts";
import { result } from "../sheepdog/results.ts";
import type { Cli } from "./command.ts";
import { hostAndPort, withClient } from "./node.ts";
import { formatTime } from "./text.ts";

export function addCluster(program: Command, cli: Cli): void {
  const cluster = program
    .command("cluster")
    .summary("look at a Sheepdog cluster, format it, shut it down")
    .description(
      `Looks at a Sheepdog cluster as a whole. A store of Kelpie's is asked through its server, and counts as
formatted; what protects its data is its directory, whatever copies are shown.`,
    );
  addInfo(cluster, cli);
  addFormat(cluster, cli);
  addShutdown(cluster, cli);
}

function addInfo(parent: Command, cli: Cli): void {
  parent
    .command("info")
    .summary("show the state of the cluster, and its epochs")
    .option("-v, --verbose", "redundancy and virtual nodes too")
    .action((options: { verbose?: boolean }, command: Command) =>
      withClient(cli, command, async (client, print) => {
        const history = await readEpochs(client);
        await print(history, () => describe(history, options.verbose === true));
      }),
    );
}

/** As `dog cluster info`, and of a store of Kelpie's what protects the data. */
function describe({ status, epochs }: ClusterHistory, verbose: boolean): string {
  const [newest] = epochs;
  const recovery = newest?.recoveryDisabled === true ? "disabled" : "enabled";
  const state = status === "running" ? `running, auto-recovery ${recovery}` : status;
  const lines = [`Cluster status: ${state}`];
  if (newest === undefined) return `${lines.join("\n")}\n`;
  const { storeName, copies, copyPolicy, clusterFlags, clusterCreatedMs } = newest;
  if (verbose) {
    const redundancy = formatRedundancy(copies, copyPolicy);
    const isAuto = (clusterFlags & clusterFlag.autoVnodes) !== 0;
    const isDisk = (clusterFlags & clusterFlag.diskMode) !== 0;
    lines.push(
      `Cluster store: ${storeName} with ${redundancy} redundancy policy`,
      `Cluster vnodes strategy: ${isAuto ? "auto" : "fixed"}`,
      `Cluster vnode mode: ${isDisk ? "disk" : "node"}`,
    );
  } else lines.push("");
  // Copies protect nothing there, though each disk has a number of them.
  if (storeName === kelpieStore) lines.push("Data kept by: the store's directory, once", "");
  lines.push(`Cluster created at ${formatTime(clusterCreatedMs)}`, "");
  lines.push("Epoch Time           Version [Host:Port:V-Nodes,,,]");
  for (const { timeMs, epoch, nodes } of epochs) {
    const seconds = String(new Date(timeMs).getSeconds()).padStart(2, "0");
    const members = nodes.map((node) => `${hostAndPort(node)}:${node.vnodes}`).join(", ");
    lines.push(`${formatTime(timeMs)}:${seconds} ${String(epoch).padStart(6)} [${members}]`);
  }
  return `${lines.join("\n")}\n`;
}

interface FormatOptions {
  backend: string;
  copies: string;
  blockSizeShift: string;
  lock?: boolean;
  strict?: boolean;
  fixedVnodes?: boolean;
  recycleVid?: boolean;
  avoidDiskfull?: boolean;
  force?: boolean;
}

function addFormat(parent: Command, cli: Cli): void {
  parent
    .command("format")
    .summary("make the cluster new; every disk in it is gone")
    .description("Makes the cluster new. Refuses one with disks in it without --force.")
    .option("-b, --backend <store>", "how nodes keep objects: plain or tree", "plain")
    .option("-c, --copies <n>", "copies of each object, or data:parity", "3")
    .option("-z, --block-size-shift <n>", "objects have 2^n bytes, 20 to 31", "22")
    .option("-l, --lock", "a disk can be opened once at a time")
    .option("-t, --strict", "no writes with fewer zones than copies")
    .option("-V, --fixed-vnodes", "virtual nodes as each node says, not by its space")
    .option(
      "-R, --recycle-vid",
      "use the ids of deleted disks again; QEMU cannot list snapshots then",
    )
    .option("-F, --avoid-diskfull", "do not move objects to nodes that are nearly full")
    .option("-f, --force", "even if there are disks")
    .action((options: FormatOptions, command: Command) => {
      const redundancy = parseRedundancy(options.copies);
      const blockSizeShift = parseShift(options.blockSizeShift);
      return withClient(cli, command, async (client, print) => {
        if (options.force !== true) {
          const points = await listPoints(client).catch((error: unknown) => {
            if (isRefused(error, result.waitForFormat)) return []; // nothing was ever there
            throw error;
          });
          if (points.length > 0) {
            const what = `disks and snapshots, ${points.length} in all`;
            throw new KelpieError("exists", `the cluster is not empty: ${what}`, {
              remedy: "--force destroys them; nothing brings them back",
            });
          }
        }
        const nowMs = cli.context.host.clock.nowMs();
        const flags = flagsOf(options);
        const { backend: store } = options;
        await formatCluster(client, { store, ...redundancy, blockSizeShift, flags, nowMs });
        await print({ store, ...redundancy, blockSizeShift }, () => `using backend ${store} store`);
      });
    });
}

function addShutdown(parent: Command, cli: Cli): void {
  parent
    .command("shutdown")
    .summary("stop all nodes of the cluster")
    .action((_options: object, command: Command) =>
      withClient(cli, command, (client) => shutDownCluster(client)),
    );
}

function flagsOf(options: FormatOptions): number {
  let flags = options.fixedVnodes === true ? 0 : clusterFlag.autoVnodes;
  if (options.strict === true) flags |= clusterFlag.strict;
  if (options.lock === true) flags |= clusterFlag.useLock;
  if (options.recycleVid === true) flags |= clusterFlag.recycleVid;
  if (options.avoidDiskfull === true) flags |= clusterFlag.avoidDiskFull;
  return flags;
}

/** "3", or "4:2" for an erasure code. */
export function parseRedundancy(text: string): { copies: number; copyPolicy: number } {
  const match = /^(\d{1,2})(?::(\d{1,2}))?$/.exec(text);
  const first = Number(match?.[1] ?? 0);
  if (match !== null && match[2] === undefined && first >= 1 && first <= 31) {
    return { copies: first, copyPolicy: 0 };
  }
  const parity = Number(match?.[2] ?? 0);
  if ([2, 4, 8, 16].includes(first) && parity >= 1 && parity <= 15) {
    return { copies: first + parity, copyPolicy: (first / 2) * 16 + parity };
  }
  throw new KelpieError("invalid", `copies ${text}: it is 1 to 31, or data:parity`, {
    remedy: "data is 2, 4, 8 or 16, and parity 1 to 15, for example 4:2",
  });
}

function formatRedundancy(copies: number, copyPolicy: number): string {
  if (copyPolicy === 0) return String(copies);
  return `${2 * (copyPolicy >> 4)}:${copyPolicy & 15}`;
}

function parseShift(text: string): number {
  const shift = Number(text);
  if (/^\d+$/.test(text) && shift >= 20 && shift <= 31) return shift;
  throw new KelpieError("invalid", `block size shift ${text}: it is 20 to 31`);
}
