import { result } from "../../../src/sheepdog/results.ts";
import {
  attributeBytes,
  attributeHash,
  decodeAttribute,
} from "../../../src/sheepdog/wire-attribute.ts";
import { vdiNameHash } from "../../../src/sheepdog/wire-hash.ts";
import {
  decodeInodeHeader,
  encodeInodeHeader,
  type InodeHeader,
  inodeBytes,
  inodeEntriesAt,
} from "../../../src/sheepdog/wire-inode.ts";
import { formatOid, type Oid, vidsMax } from "../../../src/sheepdog/wire-oid.ts";
import { dataObjectsMax, requestFlag } from "../../../src/sheepdog/wire-opcodes.ts";
import { OriginalInode } from "./original-inode.ts";

/** A refusal by the original, with its result. */
export class Refused extends Error {
  readonly result: number;

  constructor(code: number) {
    super(`result ${code}`);
    this.result = code;
  }
}

export interface NewVdiRequest {
  name: string;
  sizeBytes: number;
  baseVid: number;
  snapId: number;
  copies: number;
  copyPolicy: number;
  storePolicy: number;
  blockSizeShift: number;
}

/**
 * The rules of the original from 0.9 on, in memory, for tests of the client: what Kelpie's own server does
 * better is not so here. Snapshots' data is read-only and nothing else of them is; references are
 * counted in generations; a VDI with entries left is not deleted although that is what it answers.
 */
export class OriginalSheep {
  readonly inodes = new Map<number, OriginalInode>();
  /** By oid as text; what is missing at the end of one is zeros. */
  readonly objects = new Map<string, Uint8Array>();
  readonly #ledgers = new Map<string, Map<number, number>>();
  readonly inUse = new Set<number>();
  readonly deleted = new Set<number>();
  /** The state table: vids whose data is read-only. */
  readonly snapshots = new Set<number>();
  readonly locked = new Set<number>();
  blockSizeShift: number;
  /** Whether LOCK_VDI does more than look up. */
  locking = false;
  #nowMs = 1_400_000_000_000;

  constructor(settings: { blockSizeShift?: number } = {}) {
    this.blockSizeShift = settings.blockSizeShift ?? 22;
  }

  header(vid: number): InodeHeader {
    return decodeInodeHeader(this.#inode(vid).header);
  }

  inode(vid: number): OriginalInode {
    return this.#inode(vid);
  }

  /** By the rules of the facts page, 5.4. */
  lookup(name: string, tag: string, snapId: number): number {
    const found = this.#scan(name, tag, snapId);
    if (found.vid === 0) throw new Refused(found.failure);
    return found.vid;
  }

  newVdi(request: NewVdiRequest): number {
    const { name, snapId, baseVid } = request;
    const current = this.#scan(name, "", 0);
    if (snapId === 0) {
      if (current.vid !== 0) throw new Refused(result.vdiExists);
      return this.#makeInode(request, current.nextSnapId, baseVid);
    }
    if (current.vid === 0) throw new Refused(result.noVdi);
    this.snapshots.add(current.vid);
    this.#freeze(current.vid);
    return this.#makeInode(request, current.nextSnapId, baseVid);
  }

  deleteVdi(name: string, tag: string, snapId: number): number {
    const vid = this.lookup(name, tag, snapId);
    const inode = this.#inode(vid);
    this.deleted.add(vid);
    // What still has objects stays as it is, and the answer is the same.
    if (inode.used().next().done === true) inode.clear();
    return vid;
  }

  read(oid: Oid, offset: number, target: Uint8Array): void {
    if (oid.kind === "inode") {
      this.#inode(oid.vid).read(offset, target);
      return;
    }
    const object = this.#object(oid);
    if (offset + target.length > this.sizeOf(oid)) throw new Refused(result.invalidParameters);
    target.fill(0);
    target.set(object.subarray(offset, offset + target.length));
  }

  write(oid: Oid, offset: number, bytes: Uint8Array): void {
    if (oid.kind === "inode") {
      this.#writeInode(oid.vid, offset, bytes);
      return;
    }
    this.#mustBeWritable(oid);
    this.#put(oid, this.#object(oid), { offset, bytes });
  }

  create(oid: Oid, request: { offset: number; bytes: Uint8Array; copyFrom?: Oid }): void {
    const { offset, bytes, copyFrom } = request;
    this.#mustBeWritable(oid);
    const isPart = bytes.length < this.sizeOf(oid);
    const start = copyFrom !== undefined && isPart ? this.#object(copyFrom) : new Uint8Array(0);
    this.#put(oid, start.slice(), { offset, bytes });
  }

  remove(oid: Oid): void {
    if (!this.objects.delete(formatOid(oid))) throw new Refused(result.noObject);
  }

  /** MAKE_FS: nothing is left. */
  format(): void {
    for (const all of [this.inodes, this.objects, this.#ledgers]) all.clear();
    for (const all of [this.inUse, this.deleted, this.snapshots, this.locked]) all.clear();
  }

  lock(vid: number): void {
    if (!this.locking) return;
    if (this.locked.has(vid)) throw new Refused(result.vdiLocked);
    this.locked.add(vid);
  }

  /** GET_VDI_ATTR, in all its meanings. */
  attribute(bytes: Uint8Array, flags: number): { nameHash: number; attributeId: number } {
    const wanted = decodeAttribute(bytes);
    this.lookup(wanted.name, wanted.tag, wanted.snapId);
    const nameHash = vdiNameHash(wanted.name);
    for (let id = attributeHash(wanted); ; id = (id + 1) >>> 0) {
      const oid: Oid = { kind: "attribute", vid: nameHash, index: id };
      const found = this.objects.get(formatOid(oid));
      const there = found === undefined ? undefined : decodeAttribute(found);
      const same =
        there !== undefined &&
        there.name === wanted.name &&
        there.tag === wanted.tag &&
        there.snapId === wanted.snapId &&
        there.key === wanted.key;
      if (found !== undefined && !same) continue;
      if ((flags & requestFlag.attributeCreate) !== 0) {
        const isTaken = same && (flags & requestFlag.attributeExclusive) !== 0;
        if (isTaken) throw new Refused(result.vdiExists);
        this.objects.set(formatOid(oid), bytes.slice());
      } else if (found === undefined) {
        throw new Refused(result.noObject);
      } else if ((flags & requestFlag.attributeDelete) !== 0) {
        found[0] = 0;
      }
      return { nameHash, attributeId: id };
    }
  }

  sizeOf(oid: Oid): number {
    if (oid.kind === "attribute") return attributeBytes;
    return 2 ** this.header(oid.vid).blockSizeShift;
  }

  /** Entries that lead nowhere, and data objects that nothing leads to. */
  inconsistencies(): string[] {
    const found: string[] = [];
    const reached = new Set<string>();
    for (const [vid, inode] of this.inodes) {
      for (const [index, owner] of inode.used()) {
        const name = formatOid({ kind: "data", vid: owner, index });
        reached.add(name);
        const where = `${vid.toString(16)}[${index}]`;
        if (!this.objects.has(name)) found.push(`${where} leads to ${name}, which is gone`);
      }
    }
    for (const name of this.objects.keys()) {
      if (name.startsWith("00") && !reached.has(name)) found.push(`nothing leads to ${name}`);
    }
    return found;
  }

  #inode(vid: number): OriginalInode {
    const inode = this.inodes.get(vid);
    if (inode === undefined) throw new Refused(result.noObject);
    return inode;
  }

  #object(oid: Oid): Uint8Array {
    const object = this.objects.get(formatOid(oid));
    if (object === undefined) throw new Refused(result.noObject);
    return object;
  }

  /** Objects are kept as far as they were written: most of one is zeros in a test. */
  #put(oid: Oid, object: Uint8Array, write: { offset: number; bytes: Uint8Array }): void {
    const { offset, bytes } = write;
    const end = offset + bytes.length;
    if (end > this.sizeOf(oid)) throw new Refused(result.invalidParameters);
    let kept = object;
    if (end > kept.length) {
      kept = new Uint8Array(Math.min(this.sizeOf(oid), Math.max(end, 2 * kept.length)));
      kept.set(object);
    }
    kept.set(bytes, offset);
    this.objects.set(formatOid(oid), kept);
  }

  #mustBeWritable(oid: Oid): void {
    const isFrozen = oid.kind === "data" && this.snapshots.has(oid.vid);
    if (isFrozen) throw new Refused(result.readOnly);
  }

  #scan(name: string, tag: string, snapId: number) {
    const left = vdiNameHash(name) || 1;
    const run: number[] = [];
    for (let vid = left; this.inUse.has(vid); vid = vid + 1 === vidsMax ? 1 : vid + 1)
      run.push(vid);
    const found = { vid: 0, failure: result.noVdi as number, nextSnapId: 1 };
    const hasSelector = tag !== "" || snapId !== 0;
    for (const vid of run.reverse()) {
      const header = this.header(vid);
      if (header.name !== name) continue;
      if (!hasSelector) {
        found.nextSnapId = header.snapId + 1;
        if (header.snapshotMs === 0) found.vid = vid;
        return found;
      }
      if (header.snapshotMs === 0) found.failure = result.noTag;
      else if ((header.tag !== "" && header.tag === tag) || header.snapId === snapId) {
        return { ...found, vid };
      }
    }
    return found;
  }

  #freeVid(name: string): number {
    let vid = vdiNameHash(name) || 1;
    while (this.inUse.has(vid)) vid = vid + 1 === vidsMax ? 1 : vid + 1;
    return vid;
  }

  #freeze(vid: number): void {
    this.#inode(vid).header.set(
      encodeInodeHeader({ ...this.header(vid), snapshotMs: this.#tick() }).subarray(520, 528),
      520,
    );
  }

  #makeInode(request: NewVdiRequest, snapId: number, baseVid: number): number {
    const vid = this.#freeVid(request.name);
    const inode = new OriginalInode({
      name: request.name,
      tag: "",
      createdMs: this.#tick(),
      snapshotMs: 0,
      vmClockNs: 0,
      sizeBytes: request.sizeBytes,
      vmStateBytes: 0,
      copyPolicy: request.copyPolicy,
      storePolicy: request.storePolicy,
      copies: request.copies || 3,
      blockSizeShift: request.blockSizeShift || this.blockSizeShift,
      snapId,
      vid,
      parentVid: baseVid,
      btreeNodes: 0,
    });
    if (baseVid !== 0) this.#share(baseVid, inode);
    this.inUse.add(vid);
    this.inodes.set(vid, inode);
    return vid;
  }

  #share(baseVid: number, inode: OriginalInode): void {
    const base = this.inodes.get(baseVid);
    if (base === undefined) throw new Refused(result.baseVdiRead);
    // Also when its inode says that it is a working VDI.
    this.snapshots.add(baseVid);
    for (const [index, vid] of base.used()) {
      const { generation, count } = base.reference(index);
      base.references.set(index, { generation, count: count + 1 });
      inode.setEntry(index, vid);
      inode.references.set(index, { generation: generation + 1, count: 0 });
    }
  }

  #writeInode(vid: number, offset: number, bytes: Uint8Array): void {
    const inode = this.#inode(vid);
    const isUpdate = offset >= inodeEntriesAt && offset + bytes.length <= inodeBytes;
    if (!isUpdate) {
      inode.write(offset, bytes);
      return;
    }
    const first = Math.floor((offset - inodeEntriesAt) / 4);
    const end = Math.min(Math.ceil((offset - inodeEntriesAt + bytes.length) / 4), dataObjectsMax);
    const before = Array.from({ length: end - first }, (_, at) => ({
      index: first + at,
      vid: inode.entry(first + at),
      reference: inode.reference(first + at),
    }));
    inode.write(offset, bytes);
    for (const { index, vid: old, reference } of before) {
      inode.references.delete(index);
      if (old !== 0 && old !== inode.entry(index)) {
        this.#decrement({ kind: "data", vid: old, index }, reference);
      }
    }
  }

  #decrement(oid: Oid, { generation, count }: { generation: number; count: number }): void {
    const name = formatOid(oid);
    if (generation === 0 && count === 0) {
      this.objects.delete(name);
      return;
    }
    const ledger = this.#ledgers.get(name) ?? new Map([[0, 1]]);
    ledger.set(generation, (ledger.get(generation) ?? 0) - 1);
    ledger.set(generation + 1, (ledger.get(generation + 1) ?? 0) + count);
    this.#ledgers.set(name, ledger);
    if ([...ledger.values()].some((left) => left !== 0)) return;
    this.#ledgers.delete(name);
    this.objects.delete(name);
  }

  #tick(): number {
    this.#nowMs += 60_000;
    return this.#nowMs;
  }
}
