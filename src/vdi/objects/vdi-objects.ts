import type { Completion } from "../../base/completion.ts";
import { Mutex } from "../../base/mutex.ts";
import { attributeBytes } from "../../sheepdog/wire-attribute.ts";
import { inodeBytesMax } from "../../sheepdog/wire-inode.ts";
import type { Point } from "../../store/point.ts";
import type { SnapshotNote } from "../registry.ts";
import type { Vdis } from "../vdis.ts";
import { Attributes } from "./attributes.ts";
import { DataObjects } from "./data-objects.ts";
import { type ExtraKind, ExtraObjects } from "./extra-objects.ts";
import { InodeReader } from "./inode-reader.ts";
import { InodeWriter } from "./inode-writer.ts";
import { asObjectErrors } from "./object-errors.ts";
import { objectBytes, treeNodeBytes } from "./object-size.ts";
import {
  type AttributeRequest,
  type CreateObject,
  type FormatSettings,
  type NewVdi,
  type ObjectClient,
  ObjectError,
  type ObjectId,
  type Objects,
  type VdiInfo,
  type VdiSelector,
  type VdiSettings,
  type VdiState,
} from "./objects.ts";
import { Owners } from "./owners.ts";
import { UsedDisks } from "./used-disks.ts";
import { VdiOperations } from "./vdi-operations.ts";
import { VidResolver } from "./vid-resolver.ts";
import { type Vid, vidCount } from "./vid-table.ts";

/** The disks of a store as clients of Sheepdog see them. One for each open store. */
export class VdiObjects implements Objects {
  readonly #vdis: Vdis;
  readonly #vids: VidResolver;
  readonly #inodes: InodeReader;
  readonly #inodeWriter: InodeWriter;
  readonly #data: DataObjects;
  readonly #extra: ExtraObjects;
  readonly #attributes: Attributes;
  readonly #operations: VdiOperations;
  /** What the original orders over its whole cluster happens one after the other here too. */
  readonly #cluster = new Mutex();
  readonly #locking: boolean;
  readonly #used: UsedDisks;

  /** `locking`: also if the store was not formatted with it. */
  constructor(settings: { locking: boolean }, components: { vdis: Vdis }) {
    const { vdis } = components;
    const { registry } = vdis;
    const cluster = this.#cluster;
    const vids = new VidResolver(vdis);
    const owners = new Owners({ store: vdis.store, registry });
    const extra = new ExtraObjects({ vdis, vids });
    const reader = new InodeReader({ registry, owners, extra });
    const data = new DataObjects({ vdis, vids, owners });
    this.#vdis = vdis;
    this.#vids = vids;
    this.#data = data;
    this.#extra = extra;
    this.#inodes = reader;
    this.#inodeWriter = new InodeWriter({ vdis, vids, reader, data, extra, cluster });
    this.#attributes = new Attributes({ vdis });
    this.#operations = new VdiOperations({ vdis, vids });
    this.#used = new UsedDisks(vdis);
    this.#locking = settings.locking;
    vdis.vidLocks.isOn = this.locking;
  }

  get defaults(): VdiSettings {
    return this.#vdis.registry.objects.defaults;
  }

  get locking(): boolean {
    return this.#locking || this.#vdis.registry.objects.format.locking;
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

  format(settings: FormatSettings): Promise<boolean> {
    return this.#ordered(async () => {
      const done = await this.#operations.format(settings);
      this.#vdis.vidLocks.isOn = this.locking;
      return done;
    });
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
    for (const entry of this.#vdis.registry.objects.vids.values()) {
      if (this.#vids.kindOf(entry) === undefined) setBit(bitmap, entry.vid);
    }
    return bitmap;
  }

  async states({ max = vidCount }: { max?: number } = {}): Promise<VdiState[]> {
    const { vids } = this.#vdis.registry.objects;
    const isListed = (entry: Vid) => vids.size <= max || this.#vids.kindOf(entry) !== undefined;
    const entries = [...vids.values()].filter(isListed).sort((a, b) => a.vid - b.vid);
    return entries.map((entry) => {
      const { state, owners } = this.#vdis.vidLocks.holdersOf(this.#lockKey(entry));
      const kind = this.#vids.kindOf(entry);
      return {
        ...infoOf(entry),
        parentVid: entry.parentVid,
        snapshot: kind === "snapshot",
        deleted: kind === undefined,
        lock: state,
        owners: owners.map(({ host, port }) => ({ host, port })),
      };
    });
  }

  read(id: ObjectId, offset: number, target: Uint8Array): Completion<void> {
    return asObjectErrors(() => {
      switch (id.kind) {
        case "data":
          return this.#data.read(id, offset, target);
        case "inode":
          return this.#inodes.read(this.#vids.resolve(id.vid), offset, target);
        case "attribute":
          return this.#attributes.read(id, offset, target);
        default:
          return this.#extra.read({ ...id, kind: id.kind }, offset, target);
      }
    });
  }

  create(id: ObjectId, request: CreateObject): Completion<void> {
    return asObjectErrors(() => {
      if (id.kind === "data") return this.#data.create(id, request);
      return this.#extra.create(extraId(id), request);
    });
  }

  write(id: ObjectId, offset: number, chunks: readonly Uint8Array[]): Completion<void> {
    return asObjectErrors(() => {
      if (id.kind === "data") return this.#data.write(id, offset, chunks);
      if (id.kind === "inode") return this.#inodeWriter.write(id.vid, offset, chunks);
      return this.#extra.write(extraId(id), offset, chunks);
    });
  }

  remove(id: ObjectId): Completion<void> {
    return this.#drop(id, "remove");
  }

  discard(id: ObjectId): Completion<void> {
    return this.#drop(id, "discard");
  }

  flush(vid: number): Completion<void> {
    return asObjectErrors(() => {
      const { extras } = this.#vdis.registry.objects;
      const point = this.#vids.resolve(vid).point?.id ?? 0;
      if (!extras.has(point)) return this.#data.flush(vid);
      const both = [this.#data.flush(vid), this.#vdis.extras.flush(point)];
      return Promise.all(both).then(() => {});
    });
  }

  async exists(id: ObjectId): Promise<boolean> {
    if (id.kind === "attribute") return this.#attributes.exists(id);
    const entry = this.#vdis.registry.objects.vids.get(id.vid);
    if (entry === undefined) return false;
    if (id.kind === "inode") return true;
    if (id.kind === "data") return await this.#data.exists(id);
    if (this.#vids.resolve(id.vid).kind === "stale") return false;
    return await this.#extra.exists({ ...id, kind: id.kind });
  }

  sizeOf(id: ObjectId): number {
    if (id.kind === "inode") return inodeBytesMax;
    if (id.kind === "attribute") return attributeBytes;
    if (id.kind === "btree" || id.kind === "ledger") return treeNodeBytes;
    return objectBytes(this.#vids.resolve(id.vid).entry);
  }

  attribute(request: AttributeRequest): Promise<{ attrId: number; nameHash: number }> {
    return this.#ordered(async () => {
      await this.#find(request.selector);
      return await this.#attributes.request(request);
    });
  }

  lock(
    selector: VdiSelector,
    options: { client: ObjectClient; shared: boolean },
  ): Promise<VdiInfo> {
    return this.#ordered(async () => {
      const entry = await this.#find(selector);
      const key = this.#lockKey(entry);
      if (this.locking && key === entry.name) {
        this.#vdis.mustNotBeUsed(entry.name, "lock", { ignoring: "sheepdog" });
      }
      const since = this.#vdis.registry.working.get(entry.name)?.snapId ?? 0;
      this.#vdis.vidLocks.take(key, options.client, { shared: options.shared, since });
      if (key === entry.name) this.#used.has(options.client, entry.name);
      return infoOf(entry);
    });
  }

  release(client: ObjectClient, vid: number): void {
    const { registry, vidLocks } = this.#vdis;
    const entry = registry.objects.vids.get(vid);
    if (entry === undefined) return;
    const key = this.#lockKey(entry);
    if (key === entry.name) this.#used.leaves(client, entry.name);
    if (vidLocks.release(key, client)) return;
    const snapId = registry.snapshotAt(entry.point)?.snapId ?? Number.POSITIVE_INFINITY;
    vidLocks.releaseOld(entry.name, client, snapId);
  }

  connected(client: ObjectClient): void {
    this.#vdis.vidLocks.connected(client);
  }

  disconnected(client: ObjectClient): void {
    this.#vdis.vidLocks.disconnected(client);
    this.#used.disconnected(client);
  }

  used(client: ObjectClient, vid: number): void {
    if (!this.#vdis.registry.objects.vids.has(vid)) return;
    const { kind, entry, point } = this.#vids.resolve(vid);
    if (kind === "tip") {
      this.#vdis.vidLocks.used(entry.name, client);
      this.#used.has(client, entry.name);
    } else if (point !== undefined) this.#used.mayHave(client, () => this.#disksOn(point));
  }

  /** Working VDIs that stand on the point, or are it. */
  *#disksOn(point: Point): Generator<string> {
    const pending = [point];
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      const name = this.#vdis.registry.nameOfTip(at.id);
      if (name !== undefined) yield name;
      pending.push(...at.children);
    }
  }

  async #ordered<T>(action: () => Promise<T>): Promise<T> {
    return await asObjectErrors(() => this.#cluster.run(action));
  }

  /** The name of a working VDI, so that its lock stays with it when it gets another vid. */
  #lockKey(entry: Vid): string | number {
    return this.#vids.kindOf(entry) === "tip" ? entry.name : entry.vid;
  }

  #drop(id: ObjectId, how: "remove" | "discard"): Completion<void> {
    return asObjectErrors(() => {
      if (id.kind === "data") return this.#data.drop(id, how);
      if (id.kind === "attribute" && how === "remove") return this.#attributes.remove(id);
      return this.#extra.drop(extraId(id), how);
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

/** Inodes and attributes are made and removed by other requests. */
function extraId(id: ObjectId): ObjectId & { kind: ExtraKind } {
  const { kind } = id;
  if (kind === "vmstate" || kind === "btree" || kind === "ledger") return { ...id, kind };
  throw new ObjectError("unsupported", `an object of kind ${kind} cannot be changed this way`);
}

function infoOf(entry: Vid): VdiInfo {
  const { vid, copies, copyPolicy, blockSizeShift } = entry;
  return { vid, copies, copyPolicy, blockSizeShift };
}

function setBit(bitmap: Uint8Array, vid: number): void {
  const at = vid >> 3;
  bitmap[at] = (bitmap[at] as number) | (1 << (vid & 7));
}
