import type { Completion } from "../../base/completion.ts";
import { Mutex } from "../../base/mutex.ts";
import type { SnapshotNote } from "../registry.ts";
import type { Vdis } from "../vdis.ts";
import { InodeReader } from "./inode-reader.ts";
import { ObjectError, type ObjectId, type VdiInfo, type VdiSelector } from "./objects.ts";
import { Owners } from "./owners.ts";
import { VidResolver } from "./vid-resolver.ts";
import { type Vid, vidCount } from "./vid-table.ts";
import { defaultSettings } from "./vids.ts";

/** The disks of a store as clients of Sheepdog see them. */
export class VdiObjects {
  readonly defaults = defaultSettings;
  readonly #vdis: Vdis;
  readonly #vids: VidResolver;
  readonly #inodes: InodeReader;
  /** What the original orders over its whole cluster happens one after the other here too. */
  readonly #cluster = new Mutex();

  constructor(components: { vdis: Vdis }) {
    this.#vdis = components.vdis;
    this.#vids = new VidResolver(components.vdis);
    const { registry } = components.vdis;
    this.#inodes = new InodeReader({ registry, owners: new Owners({ registry }) });
  }

  lookup(selector: VdiSelector): Promise<VdiInfo> {
    return this.#cluster.run(async () => infoOf(await this.#find(selector)));
  }

  async vidsInUse(): Promise<Uint8Array> {
    const { registry, vids } = this.#vdis;
    await this.#cluster.run(() => vids.assign(registry.names()));
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
    const vid = this.#vids.resolve(id.vid);
    if (id.kind === "inode") return this.#inodes.read(vid, offset, target);
    throw new ObjectError("unsupported", `objects of kind ${id.kind} cannot be read yet`);
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

function infoOf(entry: Vid): VdiInfo {
  const { vid, copies, copyPolicy, blockSizeShift } = entry;
  return { vid, copies, copyPolicy, blockSizeShift };
}

function setBit(bitmap: Uint8Array, vid: number): void {
  const at = vid >> 3;
  bitmap[at] = (bitmap[at] as number) | (1 << (vid & 7));
}
