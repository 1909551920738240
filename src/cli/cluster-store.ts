import { createHash } from "node:crypto";
import { KelpieError } from "../base/errors.ts";
import { createRemoteControl } from "../control/remote-control.ts";
import type { Address } from "../host/net.ts";
import { SheepdogClient } from "../sheepdog/client.ts";
import { RemoteExports } from "../sheepdog/client-exports.ts";
import { formatClusterUri, isSheepdogUri, parseSheepdogUri } from "../sheepdog/client-uri.ts";
import { RemoteVdis } from "../sheepdog/client-vdis.ts";
import type { CliContext, KeepDiscarded, LocalStore } from "./context.ts";

/** A Sheepdog cluster as a store. */
export interface ClusterStore {
  /** As it is written in messages and listings. */
  url: string;
  nodes: readonly Address[];
  /** Where a gateway of this user has its sockets; undefined if there is no place for them. */
  directory: string | undefined;
}

/** The cluster that --store or $KELPIE_STORE names; undefined if it names something else. */
export function clusterStoreOf(
  context: CliContext,
  option: string | undefined,
): ClusterStore | undefined {
  const store = option ?? context.env.KELPIE_STORE;
  if (store === undefined || !isSheepdogUri(store)) return undefined;
  const { nodes, name } = parseSheepdogUri(store);
  if (name !== undefined) {
    throw new KelpieError("invalid", `store ${store}: it names a disk, not a cluster`, {
      remedy: `use --store ${formatClusterUri(nodes)} and name the disk in the command`,
    });
  }
  const url = formatClusterUri(nodes);
  const cache = cacheDirectory(context);
  const key = createHash("sha256").update(url).digest("hex").slice(0, 16);
  const directory = cache === undefined ? undefined : `${cache}/kelpie/sheepdog-${key}`;
  return { url, nodes, directory };
}

/** `giveUpMs`: how long a node is looked for when all are gone; a gateway never gives up. */
export async function openCluster(
  context: CliContext,
  cluster: Pick<ClusterStore, "url" | "nodes">,
  options: { giveUpMs?: number } = {},
): Promise<LocalStore & { vdis: RemoteVdis }> {
  const { net, timers } = context.host;
  const { url, nodes } = cluster;
  const client = await connect({ nodes, ...options }, { net, timers }, url);
  const vdis = new RemoteVdis({ url }, { client });
  return {
    vdis,
    control: createRemoteControl({ vdis }),
    exports: new RemoteExports({ vdis }),
    endWaits: () => client.closeSoon(),
    close: () => client.close(),
  };
}

/** For as long as the gateway runs, whatever happens to the cluster. */
export async function openGateway(
  context: CliContext,
  cluster: ClusterStore,
  { keepDiscarded }: { keepDiscarded?: KeepDiscarded },
): Promise<LocalStore> {
  if (keepDiscarded !== undefined) {
    throw new KelpieError("unsupported", "--keep-discarded: a Sheepdog cluster keeps nothing");
  }
  return await openCluster(context, cluster, { giveUpMs: Number.POSITIVE_INFINITY });
}

/** Makes the directory for a gateway's sockets. */
export async function socketDirectory(context: CliContext, cluster: ClusterStore): Promise<string> {
  const { directory, url } = cluster;
  if (directory === undefined) {
    throw new KelpieError("invalid", `${url}: there is no place for the gateway's sockets`, {
      remedy: "set $HOME or $XDG_CACHE_HOME",
    });
  }
  // Who can use the sockets can use the disks.
  await context.host.files.makeDirectory(directory, 0o700);
  return directory;
}

async function connect(
  settings: Parameters<typeof SheepdogClient.connect>[0],
  components: Parameters<typeof SheepdogClient.connect>[1],
  url: string,
): Promise<SheepdogClient> {
  try {
    return await SheepdogClient.connect(settings, components);
  } catch (error) {
    throw new KelpieError("io", `${url}: no Sheepdog server answers`, { cause: error });
  }
}

/** As the XDG base directory specification has it. */
export function cacheDirectory({ env }: CliContext): string | undefined {
  if (env.XDG_CACHE_HOME) return env.XDG_CACHE_HOME;
  return env.HOME ? `${env.HOME}/.cache` : undefined;
}
