import { deviceBytesMax, sectorBytes } from "../../block/block-device.ts";
import type { PointChange } from "../../store/formats/catalog-record.ts";
import type { Point } from "../../store/point.ts";
import { mustBeFree } from "../free-names.ts";
import { checkName } from "../names.ts";
import type { Note } from "../notes.ts";
import { belongsToVm, isOfVm } from "../refusals.ts";
import type { Vdis } from "../vdis.ts";
import { staleVid } from "./data-objects.ts";
import { arrayObjectsMax } from "./object-size.ts";
import { type FormatSettings, type NewVdi, ObjectError, type VdiSettings } from "./objects.ts";
import type { VidResolver } from "./vid-resolver.ts";
import type { Vid } from "./vid-table.ts";

/** A client has this long from DEL_VDI to NEW_VDI, even if nothing that is discarded is kept. */
const rollbackMs = 60_000;

/** NEW_VDI and DEL_VDI. Each is one catalog record, in which a new working VDI has its vid. */
export class VdiOperations {
  readonly #vdis: Vdis;
  readonly #vids: VidResolver;

  constructor(components: { vdis: Vdis; vids: VidResolver }) {
    this.#vdis = components.vdis;
    this.#vids = components.vids;
  }

  /** The four meanings. Says the new vid. */
  async create(request: NewVdi): Promise<number> {
    checkName(request.name);
    if (!request.snapshot) return await this.#createOrClone(request);
    /** Of a snapshot of the disk as it is, by a client that does not know of those by others. */
    let tag: string | undefined;
    for (;;) {
      const tip = this.#vdis.registry.working.get(request.name)?.tip;
      if (tip === undefined) {
        throw new ObjectError("no-vdi", `there is no disk "${request.name}"`);
      }
      await this.#vdis.vids.assign([request.name]);
      const current = this.#vdis.registry.objects.vids.ofPoint(tip);
      const isCurrent = current !== undefined && current.vid === request.baseVid;
      if (!isCurrent) tag ??= await this.#takeTag(request);
      let vid: number | undefined;
      if (isCurrent || (tag !== undefined && current !== undefined)) {
        vid = await this.#snapshot(request, current, tag);
        if (vid === undefined && isCurrent) {
          // It asked for a snapshot of the tip, with a tag or without.
          this.#mustStandOn(request);
          tag ??= (await this.#takeTag(request)) ?? "";
        }
      } else if (tag === undefined) vid = await this.#rebase(request, tip);
      if (vid !== undefined) return vid;
      // The disk got another tip meanwhile, over another protocol.
    }
  }

  /**
   * The tag that a client has written to the base for a snapshot to come, if that is a snapshot already:
   * others were faster. Who wants a rebase writes none. Only one request gets it. A machine's state that
   * was written with it is another snapshot's now: "stale".
   */
  async #takeTag(request: NewVdi): Promise<string | undefined> {
    const { registry } = this.#vdis;
    const entry = registry.objects.vids.get(request.baseVid);
    const snapshot = entry === undefined ? undefined : registry.snapshotAt(entry.point);
    if (snapshot === undefined || snapshot.name !== request.name) return undefined;
    const { point } = snapshot;
    const inode = registry.objects.inodes.get(point);
    if (inode === undefined || inode.tag === "" || inode.tag === snapshot.tag) return undefined;
    await this.#vdis.note([{ type: "inode", point, inode: { ...inode, tag: "" } }]);
    if (inode.vmStateBytes > 0) throw staleVid(request.baseVid);
    this.#mustStandOn(request);
    return inode.tag;
  }

  /** Else its client would go on with the map of another history. */
  #mustStandOn({ name, baseVid }: NewVdi): void {
    const { registry, store } = this.#vdis;
    const base = registry.objects.vids.get(baseVid)?.point;
    let at = store.state.points.get(registry.working.get(name)?.tip ?? 0);
    while (at !== undefined && at.id !== base) at = at.parent;
    if (at === undefined) throw staleVid(baseVid);
  }

  async delete(entry: Vid): Promise<void> {
    const { kind, point } = this.#vids.resolve(entry.vid);
    if (kind === "tip") return await this.#deleteTip(entry.name);
    if (kind !== "snapshot") throw new ObjectError("no-vdi", `"${entry.name}" is gone already`);
    const { registry } = this.#vdis;
    const snapshot = registry.snapshotAt(point.id);
    if (snapshot === undefined) return;
    await this.#vdis.deleteSnapshot(snapshot.name, `#${snapshot.snapId}`);
  }

  /** MAKE_FS. Nothing is deleted if something cannot be. False: there are disks, and there must be none. */
  async format(settings: FormatSettings): Promise<boolean> {
    const vdis = this.#vdis;
    const { registry } = vdis;
    const { copies, copyPolicy, blockSizeShift } = this.#settings({
      ...settings,
      storePolicy: 0,
    });
    const names = registry.names();
    if (names.length > 0 && settings.onlyIfEmpty) return false;
    for (const name of names) this.#mustBeDeletable(name);
    for (const name of names) {
      if (registry.working.has(name)) await vdis.delete(name, { ignoring: "sheepdog" });
      for (const { snapId } of registry.snapshotsOf(name)) {
        await vdis.deleteSnapshot(name, `#${snapId}`);
      }
    }
    const { locking } = settings;
    const format = { copies, copyPolicy, blockSizeShift, locking };
    await vdis.note([{ type: "format", format }]);
    return true;
  }

  async #deleteTip(name: string): Promise<void> {
    const { registry, locks } = this.#vdis;
    await locks.run([name], async () => {
      this.#vdis.spareDiscarded(registry.find(name).tip, rollbackMs);
      await this.#vdis.deleteHolding(name, { ignoring: "sheepdog" });
    });
  }

  /** With all its snapshots. */
  #mustBeDeletable(name: string): void {
    const vdis = this.#vdis;
    const { registry } = vdis;
    const vm = registry.vms.ofDisk(name);
    if (vm !== undefined) throw isOfVm(name, vm.name);
    vdis.mustNotBeUsed(name, "delete", { ignoring: "sheepdog" });
    for (const { point, snapId } of registry.snapshotsOf(name)) {
      const owner = registry.vms.ofPoint(point);
      if (owner !== undefined) throw belongsToVm(`snapshot ${snapId} of "${name}"`, owner);
      vdis.mustNotBeUsed(name, "delete", { snapId });
    }
  }

  /** A new disk, or a clone. After DEL_VDI of the same name, a clone is the second half of a rollback. */
  async #createOrClone(request: NewVdi): Promise<number> {
    const { name } = request;
    const { registry, store, vids, locks } = this.#vdis;
    const settings = this.#settings(request);
    const base = request.baseVid === 0 ? undefined : this.#base(request.baseVid);
    const names = base === undefined ? [name] : [name, base.entry.name];
    return await locks.run(names, async () => {
      mustBeFree(registry, name);
      const point = base === undefined ? undefined : this.#base(request.baseVid).point;
      const sizeBytes = Math.max(sizeOf(request, base?.entry ?? settings), point?.sizeBytes ?? 0);
      const id = store.allocateId();
      return await vids.run(async (choice) => {
        choice.addName(name);
        const { storePolicy } = request;
        // A clone has its base's, but for copies that are asked for.
        const { blockSizeShift } = base?.entry ?? settings;
        const copies = request.copies === 0 ? {} : { settings: { ...settings, blockSizeShift } };
        const own = base === undefined ? { settings, storePolicy } : copies;
        const { vid } = choice.addNew(id, { name, parent: point, ...own });
        const change: PointChange = { type: "point", id, parent: point?.id ?? 0, sizeBytes };
        const create: Note = { type: "create", name, tip: id };
        await store.commit([change], [create, ...choice.notes()]);
        return vid;
      });
    });
  }

  /** Undefined if the disk's tip is not the one it was. */
  async #snapshot(
    request: NewVdi,
    current: Vid,
    overtaken: string | undefined,
  ): Promise<number | undefined> {
    const { name } = request;
    const { store } = this.#vdis;
    if (current.storePolicy !== 0) {
      throw new ObjectError("unsupported", `"${name}" is a hyper volume, which has no snapshots`);
    }
    const point = store.point(current.point);
    const sizeBytes = sizeOf(request, current);
    if (sizeBytes > point.sizeBytes) await this.#vdis.resize(name, sizeBytes, false);
    let vid = 0;
    try {
      await this.#vdis.extras.flush(point.id);
      const tag = overtaken ?? this.#vdis.registry.objects.inodes.get(point.id)?.tag ?? "";
      await this.#vdis.snapshot([name], tag, {
        vids: (choice, { point: [frozen], tip: [tip] }) => {
          if (frozen !== current.point || tip === undefined) throw new TipChanged();
          vid = choice.addNew(tip, { name, parent: point }).vid;
        },
      });
    } catch (error) {
      if (error instanceof TipChanged) return undefined;
      throw error;
    }
    return vid;
  }

  /** The working VDI becomes a snapshot, and a new one stands on another snapshot. */
  async #rebase(request: NewVdi, tip: number): Promise<number | undefined> {
    const { name } = request;
    const { registry, store, vids, locks, volumes } = this.#vdis;
    const { entry } = this.#base(request.baseVid);
    return await locks.run([name, entry.name], async () => {
      const working = registry.working.get(name);
      if (working?.tip !== tip) return undefined;
      this.#vdis.mustNotBeUsed(name, "rebase", { ignoring: "sheepdog" });
      const base = this.#base(request.baseVid).point;
      const sizeBytes = Math.max(sizeOf(request, entry), base.sizeBytes);
      const id = store.allocateId();
      return await vids.run(async (choice) => {
        const { vid } = choice.addNew(id, { name, parent: base });
        const { snapId } = working;
        const tag = this.#freeTag(name, tip);
        const notes: Note[] = [{ type: "snapshot", name, snapId, tag, tip: id }];
        const inode = registry.objects.inodes.get(tip);
        // It is used up, also if somebody has it.
        if (inode !== undefined) {
          notes.push({ type: "inode", point: tip, inode: { ...inode, tag: "" } });
        }
        const to = { kind: "new" as const, id, base, sizeBytes };
        const volume = volumes.get(name);
        await volumes.behindBarrier([name], () =>
          store.move([{ tip: volume.tip, to }], [...notes, ...choice.notes()]),
        );
        return vid;
      });
    });
  }

  /** That a client has written into the inode for the snapshot to come, if nobody has it. */
  #freeTag(name: string, tip: number): string {
    const { registry } = this.#vdis;
    const tag = registry.objects.inodes.get(tip)?.tag ?? "";
    const isTaken = registry.hasTag(name, tag);
    return isTaken ? "" : tag;
  }

  /** What a disk can stand on: a snapshot. */
  #base(vid: number): { entry: Vid; point: Point } {
    const entry = this.#vdis.registry.objects.vids.get(vid);
    const found = entry === undefined ? undefined : this.#vids.resolve(vid);
    if (found?.kind === "snapshot") return found;
    throw new ObjectError("no-base-vdi", `vid ${vid.toString(16)} is not that of a snapshot`);
  }

  #settings(request: VdiSettings & { storePolicy: number }): VdiSettings {
    const { defaults } = this.#vdis.registry.objects;
    const asked = request.copies === 0 ? defaults : request;
    const { copyPolicy } = asked;
    const blockSizeShift = request.blockSizeShift || defaults.blockSizeShift;
    if (blockSizeShift < 20 || blockSizeShift > 31) {
      throw new ObjectError("invalid", `objects of 2^${blockSizeShift} bytes`);
    }
    if (request.storePolicy > 1 || (request.storePolicy === 1 && blockSizeShift !== 22)) {
      throw new ObjectError("invalid", "a hyper volume has objects of 4 MiB");
    }
    // The policy says how many strips hold data, in pairs, and how many parity.
    const copies = copyPolicy === 0 ? asked.copies : 2 * (copyPolicy >> 4) + (copyPolicy & 15);
    return { copies, copyPolicy, blockSizeShift };
  }
}

/** The disk has another tip than the request is about. */
class TipChanged extends Error {}

/** Whole sectors, so that nothing that was asked for is missing. */
function sizeOf(request: NewVdi, settings: VdiSettings): number {
  const sizeBytes = Math.ceil(request.sizeBytes / sectorBytes) * sectorBytes;
  const objectsBytes = arrayObjectsMax * 2 ** settings.blockSizeShift;
  const max = request.storePolicy === 1 ? deviceBytesMax : Math.min(objectsBytes, deviceBytesMax);
  if (sizeBytes > 0 && sizeBytes <= max) return sizeBytes;
  throw new ObjectError("invalid", `a disk of ${request.sizeBytes} bytes; ${max} are the most`);
}
