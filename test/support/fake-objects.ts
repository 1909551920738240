import { joinBytes, lengthOf } from "../../src/base/bytes.ts";
import {
  attributeBytes,
  attributeHash,
  encodeAttribute,
} from "../../src/sheepdog/wire-attribute.ts";
import { vdiNameHash } from "../../src/sheepdog/wire-hash.ts";
import {
  decodeInodeHeader,
  encodeInodeHeader,
  type InodeHeader,
  inodeBytesMax,
  inodeEntriesAt,
  inodeHeaderBytes,
} from "../../src/sheepdog/wire-inode.ts";
import { formatOid, inodeOid } from "../../src/sheepdog/wire-oid.ts";
import { vidBitmapBytes } from "../../src/sheepdog/wire-opcodes.ts";
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
} from "../../src/vdi/objects/objects.ts";

/**
 * Objects as the original keeps them: bytes under ids, with zeros behind what was written, and the
 * client's word is believed. For tests of the server that do not want a store; everything completes at
 * once unless `hold` says otherwise.
 */
export class FakeObjects implements Objects {
  defaults: VdiSettings = { copies: 3, copyPolicy: 0, blockSizeShift: 22 };
  locking = false;
  readonly objects = new Map<string, Uint8Array>();
  readonly deleted = new Set<number>();
  readonly clients = new Set<ObjectClient>();
  readonly used_: string[] = [];
  readonly flushed: number[] = [];
  readonly #inUse = new Set<number>();
  /** When set, reads and writes of data wait for it. */
  hold: Promise<void> | undefined;

  async lookup({ name, tag, snapId }: VdiSelector): Promise<VdiInfo> {
    const points = this.#points(name);
    const tip = points.find(({ snapshotMs }) => snapshotMs === 0);
    if (tag === "" && snapId === 0) {
      if (tip === undefined) throw new ObjectError("no-vdi", `no ${name}`);
      return tip;
    }
    const found = points.find(
      (point) =>
        point.snapshotMs !== 0 && ((tag !== "" && point.tag === tag) || point.snapId === snapId),
    );
    if (found === undefined) throw new ObjectError(tip ? "no-tag" : "no-vdi", `no ${tag}`);
    return found;
  }

  async newVdi(request: NewVdi): Promise<VdiInfo> {
    const { name, baseVid, snapshot, sizeBytes } = request;
    const points = this.#points(name);
    const tip = points.find(({ snapshotMs }) => snapshotMs === 0);
    if (snapshot && tip === undefined) throw new ObjectError("no-vdi", `no ${name}`);
    if (!snapshot && tip !== undefined) throw new ObjectError("vdi-exists", name);
    const base = baseVid === 0 ? undefined : this.objects.get(formatOid(inodeOid(baseVid)));
    if (baseVid !== 0 && base === undefined) throw new ObjectError("no-base-vdi", `${baseVid}`);
    if (tip !== undefined) this.#change(tip.vid, { snapshotMs: 2000 });
    const vid = this.#freeVid(name);
    const bytes = new Uint8Array(base ?? new Uint8Array(inodeHeaderBytes));
    const settings = {
      copies: request.copies || this.defaults.copies,
      copyPolicy: request.copyPolicy,
      blockSizeShift: request.blockSizeShift || this.defaults.blockSizeShift,
    };
    const header: InodeHeader = {
      ...settings,
      name,
      tag: "",
      createdMs: 1000,
      snapshotMs: 0,
      vmClockNs: 0,
      vmStateBytes: 0,
      sizeBytes,
      storePolicy: request.storePolicy,
      snapId: Math.max(0, ...points.map(({ snapId }) => snapId)) + 1,
      vid,
      parentVid: baseVid,
      btreeNodes: 0,
    };
    bytes.set(encodeInodeHeader(header));
    this.objects.set(formatOid(inodeOid(vid)), bytes);
    this.#inUse.add(vid);
    return { vid, ...settings };
  }

  async deleteVdi(selector: VdiSelector): Promise<number> {
    const { vid } = await this.lookup(selector);
    this.#change(vid, { name: "" });
    this.deleted.add(vid);
    return vid;
  }

  async format(settings: FormatSettings): Promise<boolean> {
    const { locking, onlyIfEmpty, ...defaults } = settings;
    if (onlyIfEmpty && [...this.#inUse].some((vid) => !this.deleted.has(vid))) return false;
    for (const vid of this.#inUse) this.deleted.add(vid);
    this.objects.clear();
    this.defaults = defaults;
    this.locking = locking;
    return true;
  }

  async vidsInUse(): Promise<Uint8Array> {
    return bitmap(this.#inUse);
  }

  async vidsDeleted(): Promise<Uint8Array> {
    return bitmap(this.deleted);
  }

  async states(): Promise<VdiState[]> {
    return [...this.#inUse].map((vid) => {
      const header = this.#header(vid);
      const { copies, copyPolicy, blockSizeShift, parentVid } = header;
      const settings = { copies, copyPolicy, blockSizeShift };
      const snapshot = header.snapshotMs !== 0;
      const deleted = this.deleted.has(vid);
      return { vid, ...settings, parentVid, snapshot, deleted, lock: "unlocked", owners: [] };
    });
  }

  read(id: ObjectId, offset: number, target: Uint8Array): void | Promise<void> {
    const bytes = this.objects.get(formatOid(id));
    if (bytes === undefined) throw new ObjectError("no-object", formatOid(id));
    target.fill(0);
    target.set(bytes.subarray(offset, offset + target.length));
    return id.kind === "data" ? this.hold : undefined;
  }

  create(id: ObjectId, { offset, chunks, cow }: CreateObject): void | Promise<void> {
    this.#refuseFrozen(id);
    const source = cow === undefined ? undefined : this.objects.get(formatOid(cow));
    if (cow !== undefined && source === undefined) throw new ObjectError("no-object", "source");
    this.objects.set(formatOid(id), new Uint8Array(source ?? []));
    return this.write(id, offset, chunks);
  }

  write(id: ObjectId, offset: number, chunks: readonly Uint8Array[]): void | Promise<void> {
    this.#refuseFrozen(id);
    const bytes = this.objects.get(formatOid(id));
    if (bytes === undefined) throw new ObjectError("no-object", formatOid(id));
    const end = offset + lengthOf(chunks);
    const longer = end > bytes.length ? Buffer.concat([bytes], end) : bytes;
    longer.set(joinBytes(chunks), offset);
    this.objects.set(formatOid(id), longer);
    return id.kind === "data" ? this.hold : undefined;
  }

  remove(id: ObjectId): void {
    if (!this.objects.delete(formatOid(id))) throw new ObjectError("no-object", formatOid(id));
  }

  discard(id: ObjectId): void {
    const entryAt = inodeEntriesAt + 4 * id.index;
    this.objects.get(formatOid(inodeOid(id.vid)))?.fill(0, entryAt, entryAt + 4);
    this.objects.delete(formatOid(id));
  }

  flush(vid: number): void {
    this.flushed.push(vid);
  }

  async exists(id: ObjectId): Promise<boolean> {
    return this.objects.has(formatOid(id));
  }

  sizeOf(id: ObjectId): number {
    if (id.kind === "inode") return inodeBytesMax;
    if (id.kind === "attribute") return attributeBytes;
    if (id.kind === "data" || id.kind === "vmstate")
      return 2 ** this.#header(id.vid).blockSizeShift;
    return 4 * 2 ** 20;
  }

  async attribute(request: AttributeRequest): Promise<{ attrId: number; nameHash: number }> {
    const { selector, key, mode, value = new Uint8Array(0) } = request;
    await this.lookup(selector);
    const nameHash = vdiNameHash(selector.name);
    const attrId = attributeHash({ ...selector, key });
    const oid = formatOid({ kind: "attribute", vid: nameHash, index: attrId });
    const isThere = this.objects.has(oid);
    if (mode === "exclusive" && isThere) throw new ObjectError("vdi-exists", key);
    if ((mode === "get" || mode === "delete") && !isThere) throw new ObjectError("no-object", key);
    if (mode === "delete") this.objects.delete(oid);
    else if (mode !== "get") {
      this.objects.set(oid, encodeAttribute({ ...selector, createdMs: 1000, key, value }));
    }
    return { attrId, nameHash };
  }

  lock(selector: VdiSelector): Promise<VdiInfo> {
    return this.lookup(selector);
  }

  release(): void {}

  connected(client: ObjectClient): void {
    this.clients.add(client);
  }

  disconnected(client: ObjectClient): void {
    this.clients.delete(client);
  }

  used(client: ObjectClient, vid: number): void {
    this.used_.push(`${client.peer} ${vid}`);
  }

  #points(name: string): InodeHeader[] {
    return [...this.#inUse]
      .filter((vid) => !this.deleted.has(vid))
      .map((vid) => this.#header(vid))
      .filter((header) => header.name === name);
  }

  #header(vid: number): InodeHeader {
    const bytes = this.objects.get(formatOid(inodeOid(vid)));
    if (bytes === undefined) throw new ObjectError("no-object", `vid ${vid}`);
    return decodeInodeHeader(bytes);
  }

  #change(vid: number, changes: Partial<InodeHeader>): void {
    const header = encodeInodeHeader({ ...this.#header(vid), ...changes });
    this.objects.get(formatOid(inodeOid(vid)))?.set(header);
  }

  #refuseFrozen(id: ObjectId): void {
    if (id.kind !== "data" || this.#header(id.vid).snapshotMs === 0) return;
    throw new ObjectError("read-only", formatOid(id));
  }

  #freeVid(name: string): number {
    let vid = vdiNameHash(name) || 1;
    while (this.#inUse.has(vid)) vid++;
    return vid;
  }
}

function bitmap(vids: Iterable<number>): Uint8Array {
  const bytes = new Uint8Array(vidBitmapBytes);
  for (const vid of vids) bytes[vid >> 3] = (bytes[vid >> 3] as number) | (1 << (vid & 7));
  return bytes;
}
