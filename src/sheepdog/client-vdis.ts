import { KelpieError, messageOf } from "../base/errors.ts";
import { writeU64 } from "../base/little-endian.ts";
import { Mutex } from "../base/mutex.ts";
import { shellCommand } from "../base/shell-words.ts";
import { Attachments } from "../vdi/attachments.ts";
import { checkName, checkSize, checkTag } from "../vdi/names.ts";
import type { SheepdogClient } from "./client.ts";
import { deletePoint, wipePoint } from "./client-delete.ts";
import { isRefused } from "./client-errors.ts";
import { checkHeader, readHeader } from "./client-inode.ts";
import { listPointsOf } from "./client-list.ts";
import { makeSnapshot, makeWorking, workingVid } from "./client-make.ts";
import { selectorOf } from "./client-names.ts";
import { RemoteVolumes } from "./client-volumes.ts";
import { result } from "./results.ts";
import { type InodeHeader, inodeFieldAt } from "./wire-inode.ts";
import { inodeOid } from "./wire-oid.ts";
import { blockSizeShift, dataObjectsMax } from "./wire-opcodes.ts";
import { encodeText, nameBytes } from "./wire-text.ts";

export interface RemoteVdisSettings {
  /** The cluster as the user named it, for commands in messages. */
  url: string;
}

/** What a snapshot has besides the disk: the state of a machine, saved before as vmstate. */
export interface SnapshotOptions {
  vmStateBytes?: number;
  vmClockNs?: number;
}

/** The disks of a Sheepdog cluster: what `Vdis` is for a store, as far as the protocol goes. */
export class RemoteVdis {
  readonly url: string;
  readonly client: SheepdogClient;
  readonly volumes: RemoteVolumes;
  /** Who has what open in this process; of others the cluster knows nothing. */
  readonly attachments = new Attachments();
  /** Operations of this process do not meet; those of others may. */
  readonly #mutex = new Mutex();

  constructor(settings: RemoteVdisSettings, components: { client: SheepdogClient }) {
    this.url = settings.url;
    this.client = components.client;
    this.volumes = new RemoteVolumes(components);
  }

  /** Of `kelpie vdi`, to be typed. */
  command(...words: string[]): string {
    return shellCommand("kelpie", "--store", this.url, "vdi", ...words);
  }

  /** The inode's header of a point. Throws "not-found". */
  async find(name: string, snapshot?: string): Promise<InodeHeader> {
    try {
      const { vid } = await this.client.lookup(selectorOf(name, snapshot));
      return await readHeader(this.client, vid);
    } catch (error) {
      if (!isRefused(error, result.noVdi, result.noTag)) throw error;
      const what = snapshot === undefined ? "" : ` with a snapshot "${snapshot}"`;
      throw new KelpieError("not-found", `there is no disk "${name}"${what}`, {
        cause: error,
        remedy: `${this.command("list")} shows what there is`,
      });
    }
  }

  async create(name: string, sizeBytes: number): Promise<void> {
    checkName(name);
    checkSize(sizeBytes);
    await this.#mutex.run(async () => {
      const defaults = await this.client.clusterDefault();
      const shift = defaults?.blockSizeShift || blockSizeShift.default;
      if (sizeBytes > dataObjectsMax * 2 ** shift) {
        throw new KelpieError("invalid", `disk "${name}": it can have ${dataObjectsMax} objects`);
      }
      const chosen = { copies: 0, copyPolicy: 0, storePolicy: 0, blockSizeShift: shift };
      await makeWorking(this.client, name, { ...chosen, sizeBytes, baseVid: 0 });
    });
  }

  async clone(source: string, snapshot: string, name: string): Promise<void> {
    checkName(name);
    await this.#mutex.run(async () => {
      const base = await this.#pointOf(source, snapshot);
      await makeWorking(this.client, name, { ...base, baseVid: base.vid });
    });
  }

  /** Returns the snap id. Writes of this process wait; those of others go on to the new working VDI. */
  async snapshot(name: string, tag = "", options: SnapshotOptions = {}): Promise<number> {
    if (tag !== "") checkTag(tag);
    return await this.#mutex.run(async () => {
      const { vid } = await this.find(name);
      if (tag !== "") await this.#tagMustBeFree(name, tag, vid);
      return await this.#alone(name, async (volume) => {
        const header = checkHeader(await this.find(name), vid);
        await this.#writeTag(header, tag, options);
        const next = await makeSnapshot(this.client, header).catch(async (error: unknown) => {
          // A tag on the working VDI would become that of the next snapshot.
          await this.#writeTag(header, "", {}).catch(() => {});
          throw error;
        });
        await volume?.movedTo(next);
        return header.snapId;
      });
    });
  }

  /**
   * Puts a new working VDI on a snapshot. Two steps, because the protocol has no better: what fails after
   * the first says how to do the second. The old working VDI's data is gone then.
   */
  async rollback(name: string, snapshot: string, live: boolean): Promise<void> {
    await this.#mutex.run(async () => {
      const base = await this.#pointOf(name, snapshot);
      const volume = await this.volumes.find(name);
      this.#mayRollBack(name, { live, sameSize: volume?.header.sizeBytes === base.sizeBytes });
      await this.#alone(name, async () => {
        const vid = await this.#replaceWorking(base, snapshot).catch((error: unknown) => {
          volume?.retire(new KelpieError("io", `disk "${name}" is half rolled back`));
          throw error;
        });
        await volume?.replacedBy(vid);
      });
    });
  }

  /** Of the working VDI; its snapshots stay. */
  async delete(name: string): Promise<void> {
    await this.#mutex.run(async () => {
      const header = await this.find(name);
      this.#mustNotBeUsed(name, name);
      await wipePoint(this.client, header);
      await deletePoint(this.client, { name });
    });
  }

  async deleteSnapshot(name: string, snapshot: string): Promise<void> {
    await this.#mutex.run(async () => {
      const header = await this.#pointOf(name, snapshot);
      this.#mustNotBeUsed(name, remoteAttachmentKey(name, header.snapId));
      await wipePoint(this.client, header);
      await deletePoint(this.client, { name, snapId: header.snapId });
    });
  }

  /** Only larger: the protocol cannot make a disk smaller. */
  async resize(name: string, sizeBytes: number): Promise<void> {
    checkSize(sizeBytes);
    await this.#mutex.run(() =>
      this.volumes.using(name, async (volume) => {
        if (sizeBytes === volume.sizeBytes) return;
        if (sizeBytes < volume.sizeBytes) {
          throw new KelpieError("unsupported", "a disk of a Sheepdog cluster cannot get smaller");
        }
        await volume.resize(sizeBytes);
      }),
    );
  }

  /** A snapshot, and one that this client understands. */
  async #pointOf(name: string, snapshot: string): Promise<InodeHeader> {
    const header = await this.find(name, snapshot);
    return checkHeader(header, header.vid);
  }

  async #alone<T>(
    name: string,
    action: (volume: Awaited<ReturnType<RemoteVolumes["find"]>>) => Promise<T>,
  ): Promise<T> {
    const volume = await this.volumes.find(name);
    if (volume === undefined) return await action(undefined);
    return await volume.alone(() => action(volume));
  }

  async #replaceWorking(base: InodeHeader, snapshot: string): Promise<number> {
    const { name } = base;
    const again = this.command("rollback", name, "-s", snapshot);
    const vid = await workingVid(this.client, name);
    if (vid !== undefined) {
      const old = await readHeader(this.client, vid);
      try {
        await wipePoint(this.client, old);
        await deletePoint(this.client, { name });
      } catch (error) {
        throw new KelpieError("io", `disk "${name}" is partly wiped: ${messageOf(error)}`, {
          cause: error,
          remedy: `do not use it before this has succeeded: ${again}`,
        });
      }
    }
    try {
      return await makeWorking(this.client, name, { ...base, baseVid: base.vid });
    } catch (error) {
      throw new KelpieError("io", `disk "${name}" has only snapshots now: ${messageOf(error)}`, {
        cause: error,
        remedy: `this gives it its working VDI, as it was at the snapshot: ${again}`,
      });
    }
  }

  async #writeTag(header: InodeHeader, tag: string, options: SnapshotOptions): Promise<void> {
    const oid = inodeOid(header.vid);
    const { vmStateBytes = 0, vmClockNs = 0 } = options;
    const field = new Uint8Array(nameBytes);
    encodeText(field, 0, tag, nameBytes);
    await this.client.writeObject({ oid, offset: inodeFieldAt.tag, chunks: [field] });
    if (vmStateBytes === header.vmStateBytes && vmClockNs === header.vmClockNs) return;
    for (const [offset, value] of [
      [inodeFieldAt.vmClock, vmClockNs],
      [inodeFieldAt.vmStateBytes, vmStateBytes],
    ] as const) {
      const number = new Uint8Array(8);
      writeU64(number, 0, value);
      await this.client.writeObject({ oid, offset, chunks: [number] });
    }
  }

  async #tagMustBeFree(name: string, tag: string, vid: number): Promise<void> {
    const points = await listPointsOf(this.client, name);
    if (!points.some((point) => point.vid !== vid && point.tag === tag)) return;
    throw new KelpieError("exists", `disk "${name}" has a snapshot "${tag}" already`);
  }

  #mayRollBack(name: string, how: { live: boolean; sameSize: boolean }): void {
    const clients = this.attachments.count(name);
    if (clients === 0) return;
    if (!how.live) {
      throw new KelpieError("busy", `disk "${name}" is in use by ${clients} of this gateway`, {
        remedy: "Disconnect them, or use --live if what runs on it can bear the change.",
      });
    }
    if (how.sameSize) return;
    throw new KelpieError("busy", `disk "${name}" is in use and its size would change`, {
      remedy: "Disconnect its clients first.",
    });
  }

  #mustNotBeUsed(name: string, key: string): void {
    const clients = this.attachments.count(key);
    if (clients === 0) return;
    throw new KelpieError("busy", `disk "${name}" is in use by ${clients} of this gateway`, {
      remedy: "Disconnect them first.",
    });
  }
}

/** How somebody who has a snapshot open is entered. */
export function remoteAttachmentKey(name: string, snapId: number): string {
  return `${name}@#${snapId}`;
}
