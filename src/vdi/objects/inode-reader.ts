import {
  encodeInodeEntries,
  encodeInodeHeader,
  type InodeHeader,
  inodeBytes,
  inodeEntriesAt,
  inodeHeaderBytes,
} from "../../sheepdog/wire-inode.ts";
import type { VdiRegistry } from "../registry.ts";
import type { ExtraObjects } from "./extra-objects.ts";
import { noInodeFields } from "./object-registry.ts";
import { objectCount } from "./object-size.ts";
import type { Owners } from "./owners.ts";
import type { ResolvedVid } from "./vid-resolver.ts";

/** Inodes as bytes. They are not stored: what is in them is known anyway. */
export class InodeReader {
  readonly #registry: VdiRegistry;
  readonly #owners: Owners;
  readonly #extra: ExtraObjects;

  constructor(components: { registry: VdiRegistry; owners: Owners; extra: ExtraObjects }) {
    this.#extra = components.extra;
    this.#registry = components.registry;
    this.#owners = components.owners;
  }

  /** Fills all of `target`; zeros where nothing is. */
  async read(vid: ResolvedVid, offset: number, target: Uint8Array): Promise<void> {
    target.fill(0);
    if (offset < inodeHeaderBytes) {
      target.set(encodeInodeHeader(this.header(vid)).subarray(offset, offset + target.length));
    }
    if (offset < inodeBytes && offset + target.length > inodeEntriesAt) {
      await this.#readEntries(vid, offset, target);
    }
  }

  header(vid: ResolvedVid): InodeHeader {
    const { entry } = vid;
    const { copies, copyPolicy, storePolicy, blockSizeShift, parentVid } = entry;
    const settings = { copies, copyPolicy, storePolicy, blockSizeShift, parentVid };
    return { ...this.#named(vid), ...settings, vid: entry.vid };
  }

  /** Of what no name leads to, the name is empty: so clients know that it was deleted. */
  #named(vid: ResolvedVid) {
    const { entry, point } = vid;
    const fields = point === undefined ? undefined : this.#registry.objects.inodes.get(point.id);
    const written = { ...(fields ?? noInodeFields), snapshotMs: 0 };
    const working = this.#registry.working.get(entry.name);
    if (vid.kind === "tip" && working !== undefined) {
      const { name, createdMs, snapId } = working;
      return { ...written, name, createdMs, snapId, sizeBytes: vid.point.sizeBytes };
    }
    const snapshot = point === undefined ? undefined : this.#registry.snapshotAt(point.id);
    if (vid.kind !== "snapshot" || snapshot === undefined) {
      return { ...noInodeFields, snapshotMs: 0, name: "", createdMs: 0, snapId: 0, sizeBytes: 0 };
    }
    const { name, tag, snapId, takenMs, createdMs } = snapshot;
    const times = { createdMs: createdMs ?? takenMs, snapshotMs: takenMs };
    return { ...written, ...times, name, tag, snapId, sizeBytes: vid.point.sizeBytes };
  }

  async #readEntries(vid: ResolvedVid, offset: number, target: Uint8Array): Promise<void> {
    if (vid.kind !== "tip" && vid.kind !== "snapshot") return;
    const { point, entry } = vid;
    const start = Math.max(offset, inodeEntriesAt);
    if (entry.storePolicy !== 0) {
      const root = target.subarray(start - offset, Math.min(target.length, inodeBytes - offset));
      await this.#extra.readRoot(vid, start - inodeEntriesAt, root);
      return;
    }
    const first = Math.floor((start - inodeEntriesAt) / 4);
    const wanted = Math.ceil((offset + target.length - inodeEntriesAt) / 4);
    const end = Math.min(wanted, objectCount(point, entry));
    if (first >= end) return;
    const owners = await this.#owners.entries({ point, entry }, { first, count: end - first });
    // From the middle of an entry, to the middle of one.
    const bytes = encodeInodeEntries(owners).subarray(start - inodeEntriesAt - 4 * first);
    target.set(bytes.subarray(0, offset + target.length - start), start - offset);
  }
}
