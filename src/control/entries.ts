import { blockBytes } from "../block/block-device.ts";
import type { Point } from "../store/point.ts";
import { Families } from "../vdi/history.ts";
import type { SnapshotNote, Working } from "../vdi/registry.ts";
import { attachmentKey, type Vdis } from "../vdi/vdis.ts";
import type { DiscardedEntry, VdiEntry } from "./calls.ts";

/** Working VDIs and snapshots as plain data. Nothing here reads the disk. */
export class Entries {
  readonly #vdis: Vdis;

  constructor(components: { vdis: Vdis }) {
    this.#vdis = components.vdis;
  }

  working(name: string): VdiEntry {
    return this.#ofWorking(this.#vdis.registry.find(name), new Families());
  }

  snapshot(name: string, snapshot: string): VdiEntry {
    return this.#ofSnapshot(this.#vdis.registry.findSnapshot(name, snapshot), new Families());
  }

  /** Of one name or all: by name, then by snap id, so that the working VDI comes last. */
  list(name: string | undefined): VdiEntry[] {
    const { registry } = this.#vdis;
    if (name !== undefined && registry.snapshotsOf(name).length === 0) registry.find(name);
    const names = name === undefined ? registry.names() : [name];
    const families = new Families();
    return names.flatMap((one) => {
      const working = registry.working.get(one);
      const snapshots = registry.snapshotsOf(one).map((entry) => this.#ofSnapshot(entry, families));
      return working === undefined ? snapshots : [...snapshots, this.#ofWorking(working, families)];
    });
  }

  discarded(name: string | undefined): DiscardedEntry[] {
    const { registry, store, keepDiscarded } = this.#vdis;
    const all = name === undefined ? [...registry.discarded.values()] : registry.discardedOf(name);
    return all.map((entry) => {
      const point = store.point(entry.point);
      return {
        name: entry.name,
        point: entry.point,
        why: entry.why,
        discardedMs: entry.discardedMs,
        purgeMs: entry.discardedMs + keepDiscarded.ageMs,
        sizeBytes: point.sizeBytes,
        exclusiveBytes: exclusiveBytesOf(point),
      };
    });
  }

  #ofWorking(entry: Working, families: Families): VdiEntry {
    const { name, snapId, createdMs, tip } = entry;
    const clients = this.#vdis.attachments.count(name);
    const vm = this.#vdis.registry.vms.ofDisk(name)?.name;
    return {
      kind: "working",
      tag: "",
      createdMs,
      clients,
      ...this.#ofPoint({ name, snapId, point: tip }, families),
      ...(vm === undefined ? {} : { vm }),
      ...(this.#vdis.store.isInObjectStore ? { flush: this.#vdis.registry.flushModeOf(name) } : {}),
    };
  }

  #ofSnapshot(entry: SnapshotNote, families: Families): VdiEntry {
    const { name, snapId, tag, takenMs, point } = entry;
    const clients = this.#vdis.attachments.count(attachmentKey(name, snapId));
    const vm = this.#vdis.registry.vms.ofPoint(point)?.vm;
    return {
      kind: "snapshot",
      tag,
      createdMs: takenMs,
      clients,
      ...this.#ofPoint({ name, snapId, point }, families),
      ...(vm === undefined ? {} : { vm }),
      ...(this.#vdis.store.pending.has(point) ? { pending: true as const } : {}),
    };
  }

  #ofPoint(named: { name: string; snapId: number; point: number }, families: Families) {
    const { store, registry } = this.#vdis;
    const point = store.point(named.point);
    const parent = this.#visibleParent(point);
    const parentName = parent === undefined ? undefined : registry.snapshotAt(parent.id)?.name;
    const exclusiveBytes = exclusiveBytesOf(point);
    const mappedBytes = point.mappedBlocks * blockBytes;
    return {
      ...named,
      parent: parent?.id ?? null,
      family: families.of(point).id,
      sizeBytes: point.sizeBytes,
      mappedBytes,
      exclusiveBytes,
      sharedBytes: Math.max(0, mappedBytes - exclusiveBytes),
      clone: parentName !== undefined && parentName !== named.name,
    };
  }

  #visibleParent(point: Point): Point | undefined {
    let parent = point.parent;
    while (parent !== undefined && this.#vdis.registry.snapshotAt(parent.id) === undefined) {
      parent = parent.parent;
    }
    return parent;
  }
}

/** With two or more children a point frees nothing when it is deleted. */
function exclusiveBytesOf(point: Point): number {
  return point.children.size > 1 ? 0 : Math.max(0, point.exclusiveBlocks) * blockBytes;
}
