import { joinBytes } from "../../base/bytes.ts";
import { readU32 } from "../../base/little-endian.ts";
import type { Mutex } from "../../base/mutex.ts";
import { sectorBytes } from "../../block/block-device.ts";
import {
  decodeInodeHeader,
  encodeInodeHeader,
  inodeBytes,
  inodeBytesMax,
  inodeEntriesAt,
  inodeHeaderBytes,
} from "../../sheepdog/wire-inode.ts";
import { checkTagText } from "../names.ts";
import type { Vdis } from "../vdis.ts";
import { type DataObjects, staleVid } from "./data-objects.ts";
import type { ExtraObjects } from "./extra-objects.ts";
import type { InodeReader } from "./inode-reader.ts";
import { type InodeFields, noInodeFields } from "./object-registry.ts";
import { arrayObjectsMax, objectBytes, objectCount } from "./object-size.ts";
import { ObjectError } from "./objects.ts";
import type { ResolvedVid, VidResolver } from "./vid-resolver.ts";

interface Range {
  offset: number;
  bytes: Uint8Array;
}

/**
 * Takes from what clients write into inodes what is theirs to say: the tag of the next snapshot, the
 * state of the machine, a larger size, objects that are given up. Anything else is known better here,
 * and a client whose inode is old must not undo it.
 *
 * Entries that become zeros several at a time come before DEL_VDI of the disk (`dog`) or, by a mistake
 * of QEMU's, of one of its snapshots, while a machine runs on the disk. They are nothing: DEL_VDI gives
 * up all of what it deletes, and no guest's trim comes in this way.
 */
export class InodeWriter {
  readonly #vdis: Vdis;
  readonly #vids: VidResolver;
  readonly #reader: InodeReader;
  readonly #data: DataObjects;
  readonly #extra: ExtraObjects;
  /** Held for what has to happen before or after an operation on VDIs. */
  readonly #cluster: Mutex;
  /** By vid: the entry behind those that were wiped last, if no trim came since. */
  readonly #wipedUntil = new Map<number, number>();

  constructor(components: {
    vdis: Vdis;
    vids: VidResolver;
    reader: InodeReader;
    data: DataObjects;
    extra: ExtraObjects;
    cluster: Mutex;
  }) {
    this.#vdis = components.vdis;
    this.#vids = components.vids;
    this.#reader = components.reader;
    this.#data = components.data;
    this.#extra = components.extra;
    this.#cluster = components.cluster;
  }

  async write(vid: number, offset: number, chunks: readonly Uint8Array[]): Promise<void> {
    const bytes = joinBytes(chunks);
    if (offset + bytes.length > inodeBytesMax) {
      throw new ObjectError("invalid", "bytes behind the end of an inode");
    }
    if (this.#vids.resolve(vid).kind === "stale") throw staleVid(vid);
    const header = part({ offset, bytes }, 0, inodeHeaderBytes);
    if (header !== undefined) await this.#cluster.run(() => this.#writeHeader(vid, header));
    const entries = part({ offset, bytes }, inodeEntriesAt, inodeBytes);
    if (entries !== undefined) await this.#writeEntries(vid, entries);
    // Behind them the original keeps count of references, which are none of a client's business.
  }

  async #writeHeader(vid: number, { offset, bytes }: Range): Promise<void> {
    const found = this.#vids.resolve(vid);
    if (found.kind !== "tip" && found.kind !== "snapshot") return;
    const before = this.#reader.header(found);
    const image = encodeInodeHeader(before);
    image.set(bytes, offset);
    const after = decodeInodeHeader(image);
    const { tag, vmClockNs, vmStateBytes, sizeBytes } = after;
    if (tag !== "") checkTagText(tag);
    if (vmStateBytes > Number.MAX_SAFE_INTEGER) {
      throw new ObjectError("invalid", `a machine's state of ${vmStateBytes} bytes`);
    }
    if (sizeBytes > before.sizeBytes) await this.#grow(found, sizeBytes);
    if (found.kind === "snapshot" && tag !== "" && tag !== before.tag) {
      if (vmStateBytes !== before.vmStateBytes) throw isFrozen(found.entry.name);
      // Its next snapshot's, for a client that takes this one for its working VDI.
      return await this.#keep(found.point.id, { ...this.#fieldsOf(found.point.id), tag });
    }
    const kept: InodeFields = {
      tag: found.kind === "tip" ? tag : "",
      vmStateBytes,
      btreeNodes: found.entry.storePolicy === 0 ? 0 : after.btreeNodes,
      vmClockNs: Math.min(vmClockNs, Number.MAX_SAFE_INTEGER),
    };
    await this.#keep(found.point.id, kept);
  }

  async #grow(found: ResolvedVid, sizeBytes: number): Promise<void> {
    const { entry } = found;
    if (found.kind !== "tip") throw isFrozen(entry.name);
    const max = entry.storePolicy === 0 ? arrayObjectsMax * objectBytes(entry) : Infinity;
    if (sizeBytes > max) throw new ObjectError("invalid", `"${entry.name}" can have ${max} bytes`);
    const whole = Math.ceil(sizeBytes / sectorBytes) * sectorBytes;
    await this.#vdis.resize(entry.name, whole, false);
  }

  #fieldsOf(point: number): InodeFields {
    return this.#vdis.registry.objects.inodes.get(point) ?? noInodeFields;
  }

  async #keep(point: number, inode: InodeFields): Promise<void> {
    const before = this.#fieldsOf(point);
    const isSame = Object.entries(inode).every(
      ([field, value]) => before[field as keyof InodeFields] === value,
    );
    if (!isSame) await this.#vdis.note([{ type: "inode", point, inode }]);
  }

  async #writeEntries(vid: number, { offset, bytes }: Range): Promise<void> {
    const first = Math.floor((offset - inodeEntriesAt) / 4);
    const end = Math.ceil((offset + bytes.length - inodeEntriesAt) / 4);
    const found = this.#vids.resolve(vid);
    if (found.entry.storePolicy !== 0) {
      // The root of a tree that only clients understand.
      await this.#extra.writeRoot(vid, offset - inodeEntriesAt, [bytes]);
      return;
    }
    const before = new Uint8Array(4 * (end - first));
    await this.#reader.read(found, inodeEntriesAt + 4 * first, before);
    const after = before.slice();
    after.set(bytes, offset - inodeEntriesAt - 4 * first);
    const dropped: number[] = [];
    for (let at = 0; at < before.length; at += 4) {
      const [old, wanted] = [readU32(before, at), readU32(after, at)];
      if (wanted === 0 && old !== 0) dropped.push(first + at / 4);
      else if (!this.#data.isSameOwner(wanted, old)) {
        const index = first + at / 4;
        throw new ObjectError(
          "stale",
          `object ${index} of "${found.entry.name}" is not ${wanted.toString(16)}'s`,
        );
      }
    }
    // What is given up of a snapshot has an effect with DEL_VDI, which gives up all of it.
    if (found.kind !== "tip" || dropped.length === 0) return;
    const [only] = dropped;
    if (end - first > 1 || only === undefined) {
      this.#wipedUntil.set(vid, end);
    } else if (!(await this.#endsWipe(found, only))) {
      await this.#data.drop({ kind: "data", vid, index: only }, "discard");
    }
  }

  /** Whether it is the disk's last object, and all that the wipe of the rest has left. */
  async #endsWipe(found: ResolvedVid, index: number): Promise<boolean> {
    const { entry, point } = found;
    const until = this.#wipedUntil.get(entry.vid);
    this.#wipedUntil.delete(entry.vid);
    if (until === undefined || until > index || point === undefined) return false;
    if (index !== objectCount(point, entry) - 1) return false;
    const between = new Uint8Array(4 * (index - until));
    await this.#reader.read(found, inodeEntriesAt + 4 * until, between);
    return between.every((byte) => byte === 0);
  }
}

function isFrozen(name: string): ObjectError {
  return new ObjectError("read-only", `a snapshot of "${name}" has its size and state for ever`);
}

/** What of the range lies between two places of the inode. */
function part({ offset, bytes }: Range, start: number, end: number): Range | undefined {
  const from = Math.max(offset, start);
  const to = Math.min(offset + bytes.length, end);
  return from < to
    ? { offset: from, bytes: bytes.subarray(from - offset, to - offset) }
    : undefined;
}
