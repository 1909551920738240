import type { Completion } from "../../base/completion.ts";
import { Mutex } from "../../base/mutex.ts";
import { attributeBytes } from "../../sheepdog/wire-attribute.ts";
import { inodeBytesMax } from "../../sheepdog/wire-inode.ts";
import type { SnapshotNote } from "../registry.ts";
import type { Vdis } from "../vdis.ts";
import { DataObjects } from "./data-objects.ts";
import { InodeReader } from "./inode-reader.ts";
import { InodeWriter } from "./inode-writer.ts";
import { asObjectErrors } from "./object-errors.ts";
import { objectBytes, treeNodeBytes } from "./object-size.ts";
import {
  type CreateObject,
  type NewVdi,
  ObjectError,
  type ObjectId,
  type VdiInfo,
  type VdiSelector,
  type VdiSettings,
} from "./objects.ts";
import { Owners } from "./owners.ts";
import { VdiOperations } from "./vdi-operations.ts";
import { VidResolver } from "./vid-resolver.ts";
import { type Vid, vidCount } from "./vid-table.ts";
import { Wipes } from "./wipes.ts";

/** The disks of a store as clients of Sheepdog see them. */
export class VdiObjects {
  readonly #vdis: Vdis;
  readonly #vids: VidResolver;
  readonly #inodes: InodeReader;
  readonly #inodeWriter: InodeWriter;
  readonly #data: DataObjects;
  readonly #operations: VdiOperations;
  readonly #cluster = new Mutex();

  constructor(components: { vdis: Vdis }) {
    this.#vdis = components.vdis;
    this.#vids = new VidResolver(components.vdis);
    const { registry } = components.vdis;
    const { vdis } = components;
    const vids = this.#vids;
    const wipes = new Wipes({ vdis, vids });
    this.#operations = new VdiOperations({ vdis, vids, wipes });
    const owners = new Owners({ registry });
    this.#inodes = new InodeReader({ registry, owners });
    this.#data = new DataObjects({ vdis, vids, owners });
    const [reader, data] = [this.#inodes, this.#data];
    this.#inodeWriter = new InodeWriter({
      vdis,
      vids,
      reader,
      data,
      wipes,
      cluster: this.#cluster,
    });
  }

  get defaults(): VdiSettings {
    return this.#vdis.registry.objects.defaults;
  }

  lookup(selector: VdiSelector): Promise<VdiInfo> {
    return this.#ordered(async () => infoOf(await this.#find(selector)));
  }

  newVdi(request: NewVdi): Promise<VdiInfo> {
    return this.#ordered(async () => {
      const vid = await this.#operations.create(request);
      return infoOf(this.#vids.resolve(vid).entry);
    });
  }

  deleteVdi(selector: VdiSelector): Promise<number> {
    return this.#ordered(async () => {
      const entry = await this.#find(selector);
      await this.#operations.delete(entry);
      return entry.vid;
    });
  }

  format(settings: VdiSettings & { locking: boolean }): Promise<void> {
    return this.#ordered(() => this.#operations.format(settings));
  }

  async vidsInUse(): Promise<Uint8Array> {
    const { registry, vids } = this.#vdis;
    await this.#ordered(() => vids.assign(registry.names()));
    const bitmap = new Uint8Array(vidCount / 8);
    for (const { vid } of registry.objects.vids.values()) setBit(bitmap, vid);
    return bitmap;
  }

  async vidsDeleted(): Promise<Uint8Array> {
    const bitmap = new Uint8Array(vidCount / 8);
    for (const { vid } of this.#vdis.registry.objects.vids.values()) {
      const { kind } = this.#vids.resolve(vid);
      if (kind === "deleted" || kind === "stale") setBit(bitmap, vid);
    }
    return bitmap;
  }

  read(id: ObjectId, offset: number, target: Uint8Array): Completion<void> {
    return asObjectErrors(() => {
      switch (id.kind) {
        case "data":
          return this.#data.read(id, offset, target);
        case "inode":
          return this.#inodes.read(this.#vids.resolve(id.vid), offset, target);
        default:
          throw notYet(id);
      }
    });
  }

  create(id: ObjectId, request: CreateObject): Completion<void> {
    return asObjectErrors(() => {
      if (id.kind === "data") return this.#data.create(id, request);
      throw notYet(id);
    });
  }

  write(id: ObjectId, offset: number, chunks: readonly Uint8Array[]): Completion<void> {
    return asObjectErrors(() => {
      if (id.kind === "data") return this.#data.write(id, offset, chunks);
      if (id.kind === "inode") {
        return this.#inodeWriter.write(id.vid, offset, chunks);
      }
      throw notYet(id);
    });
  }

  remove(id: ObjectId): Completion<void> {
    return this.#drop(id, "remove");
  }

  discard(id: ObjectId): Completion<void> {
    return this.#drop(id, "discard");
  }

  flush(vid: number): Completion<void> {
    return asObjectErrors(() => this.#data.flush(vid));
  }

  async exists(id: ObjectId): Promise<boolean> {
    if (this.#vdis.registry.objects.vids.get(id.vid) === undefined) return false;
    if (id.kind === "inode") return true;
    if (id.kind === "data") return await this.#data.exists(id);
    throw notYet(id);
  }

  sizeOf(id: ObjectId): number {
    if (id.kind === "inode") return inodeBytesMax;
    if (id.kind === "attribute") return attributeBytes;
    if (id.kind === "btree" || id.kind === "ledger") return treeNodeBytes;
    return objectBytes(this.#vids.resolve(id.vid).entry);
  }

  /** What the original orders over its whole cluster happens one after the other here too. */
  async #ordered<T>(action: () => Promise<T>): Promise<T> {
    return await asObjectErrors(() => this.#cluster.run(action));
  }

  #drop(id: ObjectId, how: "remove" | "discard"): Completion<void> {
    return asObjectErrors(() => {
      if (id.kind === "data") return this.#data.drop(id, how);
      throw notYet(id);
    });
  }

  async #find(selector: VdiSelector): Promise<Vid> {
    const { registry, vids } = this.#vdis;
    for (;;) {
      await vids.assign([selector.name]);
      const found = registry.objects.vids.ofPoint(this.#pointOf(selector));
      if (found !== undefined) return found;
      // The disk got a new tip since its points got their vids.
    }
  }

  #pointOf({ name, tag, snapId }: VdiSelector): number {
    const { registry } = this.#vdis;
    const working = registry.working.get(name);
    if (tag === "" && snapId === 0) {
      if (working === undefined) throw new ObjectError("no-vdi", `there is no disk "${name}"`);
      return working.tip;
    }
    const isAsked = (one: SnapshotNote) =>
      (one.tag !== "" && one.tag === tag) || one.snapId === snapId;
    const snapshot = registry.snapshotsOf(name).findLast(isAsked);
    if (snapshot !== undefined) return snapshot.point;
    const what = `disk "${name}" has no snapshot "${tag === "" ? snapId : tag}"`;
    throw new ObjectError(working === undefined ? "no-vdi" : "no-tag", what);
  }
}

function notYet(id: ObjectId): ObjectError {
  return new ObjectError("unsupported", `nothing can be done with objects of kind ${id.kind} yet`);
}

function infoOf(entry: Vid): VdiInfo {
  const { vid, copies, copyPolicy, blockSizeShift } = entry;
  return { vid, copies, copyPolicy, blockSizeShift };
}

function setBit(bitmap: Uint8Array, vid: number): void {
  const at = vid >> 3;
  bitmap[at] = (bitmap[at] as number) | (1 << (vid & 7));
}
