import { BufferPool } from "../base/buffer-pool.ts";
import type { ByteBudget } from "../base/byte-budget.ts";
import { ConnectionCount } from "../base/connection-count.ts";
import type { Log } from "../host/log.ts";
import type { Address, Connection, Listener, Net } from "../host/net.ts";
import type { Timers } from "../host/timers.ts";
import type { Objects } from "../vdi/objects/objects.ts";
import { Turns } from "../vdi/objects/turns.ts";
import { Cluster, type StoreFacts } from "./cluster.ts";
import { type ConnectionSettings, SheepdogConnection } from "./connection.ts";
import * as limits from "./limits.ts";
import type { OperationParts } from "./operation.ts";
import { ReplyWriter } from "./reply-writer.ts";
import { encodeIpAddress } from "./wire-node.ts";

export interface SheepdogServerSettings extends Partial<ConnectionSettings> {
  /** Format with disks there, shut down, kill: whoever reaches an address may. */
  allowAdmin: boolean;
  connectionsMax?: number;
}

export interface SheepdogServerComponents {
  net: Net;
  timers: Timers;
  log: Log;
  objects: Objects;
  store: StoreFacts;
  /** Limits that are shared with other servers, in place of connectionsMax. */
  connections?: ConnectionCount | undefined;
  /** Told of each request for the data of a disk, if somebody wants to know. */
  meterOfVid?: OperationParts["meterOfVid"];
  /** Data in flight on all connections; without it only each has a limit. */
  budget?: ByteBudget | undefined;
  /** A client has asked for the server's end, and was allowed to. `close` is for whoever made it. */
  stop(): void;
}

export interface SheepdogConnectionInfo {
  peer: string;
  requests: number;
  requestsInFlight: number;
}

/**
 * Serves the disks of a store as a cluster of one node. Listens nowhere until it is told.
 */
export class SheepdogServer {
  readonly #settings: ConnectionSettings;
  readonly #count: ConnectionCount;
  readonly #net: Net;
  readonly #timers: Timers;
  readonly #parts: OperationParts;
  readonly #cluster: Cluster;
  readonly #pool = new BufferPool();
  readonly #listeners: Listener[] = [];
  readonly #connections = new Set<SheepdogConnection>();
  #closing = false;

  constructor(settings: SheepdogServerSettings, components: SheepdogServerComponents) {
    const { net, timers, log, objects, store } = components;
    this.#settings = {
      requestsInFlightMax: settings.requestsInFlightMax ?? limits.requestsInFlightMax,
      bytesInFlightMax: settings.bytesInFlightMax ?? limits.bytesInFlightMax,
      budget: components.budget,
      stalledMs: settings.stalledMs ?? limits.stalledMs,
      closeMs: settings.closeMs ?? limits.closeMs,
    };
    const max = settings.connectionsMax ?? limits.connectionsMax;
    this.#count = components.connections ?? new ConnectionCount({ max, perAddressMax: max });
    this.#net = net;
    this.#timers = timers;
    this.#cluster = new Cluster({ objects, store });
    const { allowAdmin } = settings;
    const { stop, meterOfVid } = components;
    const turns = new Turns({ timers });
    this.#parts = {
      objects,
      cluster: this.#cluster,
      store,
      log,
      turns,
      allowAdmin,
      stop,
      meterOfVid,
    };
  }

  /** Says where it listens: a port 0 is replaced. Throws what `Net.listen` throws. */
  async listen(address: Address): Promise<Address> {
    const listener = await this.#net.listen(address, (connection) => this.#accept(connection));
    const isFirst = this.#listeners.every(({ address: { kind } }) => kind !== "tcp");
    this.#listeners.push(listener);
    const { address: actual } = listener;
    if (actual.kind === "tcp" && isFirst) {
      this.#cluster.nodeId = { host: reachableHost(actual.host), port: actual.port };
    }
    return actual;
  }

  connections(): SheepdogConnectionInfo[] {
    return [...this.#connections].map(({ client, requests, inFlight }) => ({
      peer: client.peer,
      requests,
      requestsInFlight: inFlight,
    }));
  }

  /**
   * Stops accepting and taking requests; what is in flight is finished and its replies leave.
   * Connections that take longer than closeMs are cut. Resolves when no disk is asked any more.
   */
  async close(): Promise<void> {
    this.#closing = true;
    const silent = Promise.all(this.#listeners.map((listener) => listener.close()));
    const connections = [...this.#connections];
    for (const connection of connections) connection.shutdown();
    const cut = this.#timers.after(this.#settings.closeMs, () => {
      for (const connection of connections) connection.destroy();
    });
    await Promise.all(connections.map((connection) => connection.done));
    cut.cancel();
    await silent;
    // Operations of the whole cluster go on without whoever asked.
    await this.#cluster.serial.run(async () => {});
  }

  #accept(connection: Connection): void {
    const { peer } = connection;
    const refusal = this.#closing ? "the server is shutting down" : this.#count.enter(peer);
    if (refusal !== undefined) {
      this.#parts.log.warn("sheepdog connection refused", { peer, reason: refusal });
      connection.destroy();
      return;
    }
    const replies = new ReplyWriter(this.#pool);
    const components = { ...this.#parts, timers: this.#timers, replies };
    const served = new SheepdogConnection(connection, this.#settings, components);
    this.#connections.add(served);
    this.#parts.log.info("client connected", { protocol: "sheepdog", peer });
    void served.done.then(() => {
      this.#connections.delete(served);
      this.#count.leave(peer);
      this.#parts.log.info("client gone", { protocol: "sheepdog", peer });
    });
  }
}

/** What `dog` connects to when it asks each node: an address, and none that stands for all. */
function reachableHost(host: string): string {
  const isWild = host === "0.0.0.0" || host === "::";
  return isWild || !isAddress(host) ? "127.0.0.1" : host;
}

function isAddress(host: string): boolean {
  try {
    encodeIpAddress(host);
    return true;
  } catch {
    return false; // a name
  }
}
