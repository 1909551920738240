import type { Address, Net } from "../../../src/host/net.ts";
import { SheepdogClient } from "../../../src/sheepdog/client.ts";
import { RemoteVolume } from "../../../src/sheepdog/client-volume.ts";
import { MemoryNet } from "../memory-net.ts";
import { OriginalSheep } from "./original-sheep.ts";
import { QuickTimers } from "./quick-timers.ts";
import { SheepServer } from "./sheep-server.ts";

export const mebibyte = 2 ** 20;
export const sheepAddress: Address = { kind: "tcp", host: "127.0.0.1", port: 7000 };

export interface SheepWorldSettings {
  blockSizeShift?: number;
  shuffle?: () => number;
  /** Put around the network that clients use. */
  wrapNet?: (net: Net) => Net;
}

/** A cluster of the original with one node, and clients of it. Objects have 1 MiB. */
export class SheepWorld {
  readonly sheep: OriginalSheep;
  readonly server: SheepServer;
  readonly net: Net;
  readonly timers = new QuickTimers();
  readonly #clients: SheepdogClient[] = [];

  static async start(settings: SheepWorldSettings = {}): Promise<SheepWorld> {
    const memory = new MemoryNet();
    const world = new SheepWorld(settings, settings.wrapNet?.(memory) ?? memory);
    await world.server.listen(memory);
    return world;
  }

  private constructor(settings: SheepWorldSettings, net: Net) {
    this.sheep = new OriginalSheep({ blockSizeShift: settings.blockSizeShift ?? 20 });
    const { shuffle } = settings;
    this.server = new SheepServer(
      { address: sheepAddress, ...(shuffle === undefined ? {} : { shuffle }) },
      { sheep: this.sheep },
    );
    this.net = net;
  }

  async client(net: Net = this.net): Promise<SheepdogClient> {
    const settings = { nodes: [sheepAddress] };
    const client = await SheepdogClient.connect(settings, { net, timers: this.timers });
    this.#clients.push(client);
    return client;
  }

  /** Made on the server. */
  createDisk(name: string, sizeBytes: number): number {
    return this.sheep.newVdi({ ...plainVdi, name, sizeBytes });
  }

  /** As another client does it: the tag first, then the snapshot. */
  snapshot(name: string, tag: string): number {
    const vid = this.sheep.lookup(name, "", 0);
    const bytes = new Uint8Array(256);
    new TextEncoder().encodeInto(tag, bytes);
    this.sheep.write({ kind: "inode", vid, index: 0 }, 256, bytes);
    const { sizeBytes } = this.sheep.header(vid);
    return this.sheep.newVdi({ ...plainVdi, name, sizeBytes, baseVid: vid, snapId: 1 });
  }

  async open(name: string, client?: SheepdogClient): Promise<RemoteVolume> {
    const changeBases = async () => [];
    return RemoteVolume.open(name, { client: client ?? (await this.client()), changeBases });
  }

  async close(): Promise<void> {
    for (const client of this.#clients) await client.close();
    await this.server.stop();
  }
}

export const plainVdi = {
  sizeBytes: 0,
  baseVid: 0,
  snapId: 0,
  copies: 0,
  copyPolicy: 0,
  storePolicy: 0,
  blockSizeShift: 0,
};
