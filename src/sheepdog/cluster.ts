import { Mutex } from "../base/mutex.ts";
import type { Objects } from "../vdi/objects/objects.ts";
import { clusterStatus, type EpochRecord } from "./wire-cluster.ts";
import { type ClusterNode, defaultZone, type NodeId } from "./wire-node.ts";
import { clusterFlag } from "./wire-opcodes.ts";
import type { NodeStat, Throttling } from "./wire-stat.ts";

/** What of a store the answers about the cluster and its node say. */
export interface StoreFacts {
  /** Where it is, for people. */
  readonly path: string;
  readonly createdMs: number;
  space(): Promise<{ totalBytes: number; freeBytes: number }>;
}

/** There is one node and nothing happens to it: the epoch in which the cluster was made goes on. */
export const epoch = 1;
/** What keeps the objects. `dog` prints it as the kind of store. */
export const storeName = "kelpie";
/** As every node has that is not told otherwise. */
export const vnodes = 128;

/** This server as a cluster of one node. */
export class Cluster {
  /** Operations of the whole cluster: one at a time. */
  readonly serial = new Mutex();
  readonly #parts: { objects: Objects; store: StoreFacts };
  /** Where clients reach us: that of the first listener they could use. */
  nodeId: NodeId = { host: "127.0.0.1", port: 7000 };
  status: number = clusterStatus.fine;
  /** There is nothing to recover; what was set is kept until the server ends, and shown. */
  recoveryDisabled = false;
  throttling: Throttling = { atATime: 0, intervalMs: 0, on: false };
  /** Requests of all connections since the server began. */
  readonly stat: NodeStat = newStat();

  constructor(parts: { objects: Objects; store: StoreFacts }) {
    this.#parts = parts;
  }

  get createdMs(): number {
    return this.#parts.store.createdMs;
  }

  get flags(): number {
    const lock = this.#parts.objects.locking ? clusterFlag.useLock : 0;
    return clusterFlag.autoVnodes | lock;
  }

  async nodes(): Promise<ClusterNode[]> {
    const { totalBytes } = await this.#parts.store.space();
    const { nodeId } = this;
    return [{ ...nodeId, vnodes, zone: defaultZone(nodeId.host), spaceBytes: totalBytes }];
  }

  async epochRecord(): Promise<EpochRecord> {
    const { copies, copyPolicy } = this.#parts.objects.defaults;
    return {
      clusterCreatedMs: this.createdMs,
      timeMs: this.createdMs,
      epoch,
      recoveryDisabled: this.recoveryDisabled,
      copies,
      copyPolicy,
      clusterFlags: this.flags,
      storeName,
      nodes: await this.nodes(),
    };
  }
}

function newStat(): NodeStat {
  return {
    gatewayActive: 0,
    peerActive: 0,
    gatewayTotal: 0,
    peerTotal: 0,
    gatewayReceivedBytes: 0,
    gatewaySentBytes: 0,
    peerReceivedBytes: 0,
    peerSentBytes: 0,
    gatewayRemoves: 0,
    gatewayReads: 0,
    gatewayWrites: 0,
    gatewayFlushes: 0,
    peerRemoves: 0,
    peerReads: 0,
    peerWrites: 0,
  };
}
