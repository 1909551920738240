import { KelpieError } from "../base/errors.ts";
import type { Address } from "../host/net.ts";
import { connectControl } from "../http/control-client.ts";
import type { SheepdogClient } from "../sheepdog/client.ts";
import { parseAddress } from "./addresses.ts";
import { clusterStoreOf, openCluster } from "./cluster-store.ts";
import type { CliContext } from "./context.ts";
import { controlSocket, storeDirectory } from "./session.ts";

/**
 * Runs `body` with a client of the cluster that the store is, or of the server that has the store
 * open: what it asks has no other way.
 */
export async function withSheepdog<T>(
  context: CliContext,
  store: string | undefined,
  body: (client: SheepdogClient) => Promise<T>,
): Promise<T> {
  const cluster = clusterStoreOf(context, store) ?? (await ownServer(context, store));
  const opened = await openCluster(context, cluster);
  try {
    return await body(opened.vdis.client);
  } finally {
    await opened.close();
  }
}

async function ownServer(
  context: CliContext,
  option: string | undefined,
): Promise<{ url: string; nodes: readonly Address[] }> {
  const store = storeDirectory(context, option);
  const running = await connectControl(controlSocket(store));
  const nodes = (running?.info.sheepdog ?? [])
    .map(parseAddress)
    .filter((address) => address !== "off");
  if (nodes.length > 0) return { url: store, nodes };
  const why = running === undefined ? "no server has it open" : "its server has --sheepdog off";
  throw new KelpieError("unsupported", `store ${store}: ${why}`, {
    remedy: "start kelpie serve, or name a cluster: --store sheepdog://host:port",
  });
}
