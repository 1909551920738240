import { KelpieError } from "../base/errors.ts";
import type { SheepdogClient } from "../sheepdog/client.ts";
import { clusterStoreOf, openCluster } from "./cluster-store.ts";
import type { CliContext } from "./context.ts";

/** Runs `body` with a client of the cluster that the store is: what it asks has no other way. */
export async function withSheepdog<T>(
  context: CliContext,
  store: string | undefined,
  body: (client: SheepdogClient) => Promise<T>,
): Promise<T> {
  const cluster = clusterStoreOf(context, store);
  if (cluster === undefined) {
    throw new KelpieError("unsupported", "this asks a Sheepdog cluster, and the store is none", {
      remedy: "name one: --store sheepdog://host:port",
    });
  }
  const opened = await openCluster(context, cluster);
  try {
    return await body(opened.vdis.client);
  } finally {
    await opened.close();
  }
}
