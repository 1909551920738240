import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { PointChange } from "../store/formats/catalog-record.ts";
import type { Point } from "../store/point.ts";
import { Store, type StoreComponents, type StoreSettings } from "../store/store.ts";
import { Attachments } from "./attachments.ts";
import { type CopyProgress, copyBlocks } from "./copy-blocks.ts";
import { History } from "./history.ts";
import { NameLocks } from "./name-locks.ts";
import { checkName, checkSize, checkTag } from "./names.ts";
import type { Note } from "./notes.ts";
import { Vids } from "./objects/vids.ts";
import { VdiRegistry, type Working } from "./registry.ts";
import { type KeepDiscarded, Retention } from "./retention.ts";
import { Volume } from "./volume.ts";

export interface VdisSettings extends StoreSettings {
  keepDiscarded?: KeepDiscarded;
}

/**
 * The disks of a store: names, snapshots, clones, rollback. Each operation is one catalog record, also
 * over several disks, and so either happened or did not.
 */
export class Vdis {
  readonly store: Store;
  readonly registry: VdiRegistry;
  readonly history: History;
  readonly vids: Vids;
  readonly attachments = new Attachments();
  readonly #retention: Retention;
  readonly #locks = new NameLocks();
  readonly #volumes = new Map<string, Volume>();
  /** Discarded tips that are being brought back or given up just now: never both. */
  readonly #claimed = new Set<number>();

  static async open(
    settings: VdisSettings,
    components: Omit<StoreComponents, "registry">,
  ): Promise<Vdis> {
    const registry = new VdiRegistry();
    const store = await Store.open(settings, { ...components, registry });
    await deleteOrphans(store, registry);
    return new Vdis({ store, registry, host: components.host, keep: settings.keepDiscarded });
  }

  private constructor(parts: {
    store: Store;
    registry: VdiRegistry;
    host: Host;
    keep: KeepDiscarded | undefined;
  }) {
    const { store, registry, host, keep } = parts;
    this.store = store;
    this.registry = registry;
    this.history = new History({ store, registry });
    this.vids = new Vids({ store, registry });
    this.#retention = new Retention(
      { keep },
      { store, registry, host, purge: (p) => this.#purge(p) },
    );
    this.#retention.start();
  }

  get keepDiscarded(): KeepDiscarded {
    return this.#retention.keep;
  }

  /** The point of the working VDI, or of a snapshot by tag or id. */
  point(name: string, snapshot?: string): Point {
    if (snapshot === undefined) return this.store.point(this.registry.find(name).tip);
    return this.store.point(this.registry.findSnapshot(name, snapshot).point);
  }

  /** The working VDI as a device. The same one for everybody. */
  volume(name: string): Volume {
    const found = this.#volumes.get(name);
    if (found !== undefined) return found;
    const tip = this.store.tip(this.point(name));
    const volume = new Volume({ name }, { tip, history: this.history });
    this.#volumes.set(name, volume);
    return volume;
  }

  async create(name: string, sizeBytes: number): Promise<void> {
    checkName(name);
    checkSize(sizeBytes);
    return this.#locks.run([name], async () => {
      this.#mustBeFree(name);
      const id = this.store.allocateId();
      const change: PointChange = { type: "point", id, parent: 0, sizeBytes };
      await this.#commit([change], [{ type: "create", name, tip: id }]);
    });
  }

  async clone(source: string, snapshot: string, name: string): Promise<void> {
    checkName(name);
    return this.#locks.run([source, name], async () => {
      this.#mustBeFree(name);
      const base = this.point(source, snapshot);
      const id = this.store.allocateId();
      const { sizeBytes } = base;
      const change: PointChange = { type: "point", id, parent: base.id, sizeBytes };
      await this.#commit([change], [{ type: "create", name, tip: id }]);
    });
  }

  /** One snapshot of each disk, all of one moment, while they are written. */
  async snapshot(names: readonly string[], tag = ""): Promise<void> {
    if (tag !== "") checkTag(tag);
    mustDiffer(names);
    return this.#locks.run(names, async () => {
      const notes: Note[] = [];
      const requests = names.map((name) => {
        const { snapId } = this.registry.find(name);
        this.#tagMustBeFree(name, tag);
        const id = this.store.allocateId();
        notes.push({ type: "snapshot", name, snapId, tag, tip: id });
        return { tip: this.volume(name).tip, id };
      });
      await this.store.snapshot(requests, notes);
    });
  }

  /**
   * Puts a new working VDI on a snapshot of each disk, in one step. Newer snapshots stay, no snapshot is
   * made, and the old working VDI can be brought back until it is purged.
   */
  async rollback(names: readonly string[], snapshot: string, live: boolean): Promise<void> {
    mustDiffer(names);
    return this.#locks.run(names, async () => {
      const moves = names.map((name) => {
        this.registry.find(name);
        const base = this.point(name, snapshot);
        return { name, to: { kind: "new" as const, base, sizeBytes: base.sizeBytes } };
      });
      for (const { name, to } of moves) this.#mayMove(name, to.sizeBytes, live);
      const notes: Note[] = [];
      const requests = moves.map(({ name, to }) => {
        const id = this.store.allocateId();
        notes.push({ type: "replace", name, tip: id, why: "rollback" });
        return { tip: this.volume(name).tip, to: { ...to, id } };
      });
      await this.#behindBarrier(names, () => this.store.move(requests, notes));
    });
  }

  /** Of the working VDI: its snapshots stay, and it can be brought back until it is purged. */
  delete(name: string): Promise<void> {
    return this.#locks.run([name], async () => {
      this.registry.find(name);
      this.#mustNotBeUsed(name, "delete");
      // Made if there is none yet: who opens the disk meanwhile must come to a door that is shut.
      const volume = this.volume(name);
      await this.#behindBarrier([name], async () => {
        await this.store.closeTip(volume.tip);
        await this.#commit([], [{ type: "delete", name }]);
        volume.retire(new KelpieError("closed", `disk "${name}" was deleted`));
      });
      this.#volumes.delete(name);
    });
  }

  deleteSnapshot(name: string, snapshot: string): Promise<void> {
    return this.#locks.run([name], async () => {
      const { point, snapId } = this.registry.findSnapshot(name, snapshot);
      this.#mustNotBeUsed(name, "delete", snapId);
      await this.vids.run(async (choice) => {
        // What is read by the vid of this snapshot is read through them from here on.
        if (this.registry.objects.vids.ofPoint(point) !== undefined) {
          choice.addChildren(this.store.point(point));
        }
        const notes: Note[] = [...choice.notes(), { type: "deleteSnapshot", point }];
        await this.#commit([{ type: "delete", id: point }], notes);
      });
    });
  }

  /** Brings a discarded tip back: the newest of the name, or the one with that point. */
  undelete(name: string, options: { point?: number; as?: string; live?: boolean }): Promise<void> {
    const { point, as, live = false } = options;
    if (as !== undefined) checkName(as);
    const target = as ?? name;
    return this.#locks.run([name, target], async () => {
      const found = this.#findDiscarded(name, point);
      if (as !== undefined) this.#mustBeFree(as);
      await this.#claiming([found.point], () => this.#bringBack(found.point, target, live));
    });
  }

  /** Gives discarded tips up; of one name, or all. Says how many. */
  async purge(name?: string): Promise<number> {
    const points = [...this.registry.discarded.values()]
      .filter((entry) => name === undefined || entry.name === name)
      .map((entry) => entry.point);
    if (points.length > 0) await this.#purge(points);
    return points.length;
  }

  async resize(name: string, sizeBytes: number, shrink: boolean): Promise<void> {
    checkSize(sizeBytes);
    return this.#locks.run([name], async () => {
      const point = this.point(name);
      const before = point.sizeBytes;
      if (sizeBytes === before) return;
      if (sizeBytes < before) this.#mayShrink(name, shrink);
      // What a shrink left behind, cut off by a crash, must not come back when the disk grows.
      else await this.volume(name).forgetBeyondEnd(sizeBytes);
      await this.#commit([{ type: "resize", id: point.id, sizeBytes }], []);
      if (sizeBytes < before) await this.#forgetBehind(name, before);
    });
  }

  /** What a shrink left behind. The disk is smaller now: a failure of this is none of the resize. */
  async #forgetBehind(name: string, sizeBefore: number): Promise<void> {
    try {
      await this.volume(name).forgetBeyondEnd(sizeBefore);
    } catch (error) {
      // Growing does it again, before anybody can see what is there.
      if (!isKelpieError(error)) throw error;
    }
  }

  /** Makes the disk stand on nothing: copies what it shares. Not while it is used. */
  flatten(name: string, options: CopyProgress = {}): Promise<void> {
    return this.#locks.run([name], async () => {
      const point = this.point(name);
      if (point.parent === undefined) return;
      this.#mustNotBeUsed(name, "flatten");
      const id = this.store.allocateId();
      const { sizeBytes } = point;
      await this.volume(name).tip.log?.drained();
      const before = point.map.share();
      await this.#commit([{ type: "point", id, parent: 0, sizeBytes }], []);
      const tip = this.store.tip(this.store.point(id));
      try {
        await copyBlocks({ store: this.store, from: point, to: tip }, options);
        this.#mustNotBeUsed(name, "flatten");
        await tip.flush();
        await this.store.closeTip(tip);
        const to = { kind: "existing" as const, point: tip.point };
        const note: Note = { type: "replace", name, tip: id, why: "flatten" };
        await this.#behindBarrier([name], async () => {
          // Whoever wrote may be gone by now. Any write since has made a new root.
          if (point.map.root !== before) throw writtenMeanwhile(name);
          await this.store.move([{ tip: this.volume(name).tip, to }], [note]);
        });
      } catch (error) {
        await this.store.closeTip(tip);
        await this.#commit([{ type: "delete", id }], []);
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    await this.#retention.stop();
    const volumes = [...this.#volumes.values()];
    await Promise.all(volumes.map((volume) => volume.admission.close()));
    await this.store.close();
    for (const volume of volumes) {
      volume.retire(new KelpieError("closed", "the store is closed"));
      volume.admission.open();
    }
  }

  #commit(changes: PointChange[], notes: Note[]): Promise<void> {
    return this.store.commit(changes, notes);
  }

  async #bringBack(tip: number, target: string, live: boolean): Promise<void> {
    const point = this.store.point(tip);
    if (!this.registry.working.has(target)) {
      await this.#commit([], [{ type: "create", name: target, tip }]);
      return;
    }
    this.#mayMove(target, point.sizeBytes, live);
    const note: Note = { type: "replace", name: target, tip, why: "undelete" };
    const requests = [{ tip: this.volume(target).tip, to: { kind: "existing" as const, point } }];
    await this.#behindBarrier([target], () => this.store.move(requests, [note]));
  }

  async #purge(points: readonly number[]): Promise<void> {
    const free = points.filter(
      (point) => this.registry.discarded.has(point) && !this.#claimed.has(point),
    );
    if (free.length === 0) return;
    const notes = free.map((point): Note => ({ type: "purge", point }));
    const changes = free.map((id): PointChange => ({ type: "delete", id }));
    await this.#claiming(free, () => this.#commit(changes, notes));
  }

  /** Must begin in the turn in which the points were looked at. */
  async #claiming(points: readonly number[], action: () => Promise<void>): Promise<void> {
    for (const point of points) this.#claimed.add(point);
    try {
      await action();
    } finally {
      for (const point of points) this.#claimed.delete(point);
    }
  }

  async #behindBarrier<T>(names: readonly string[], action: () => Promise<T>): Promise<T> {
    const doors = names.flatMap((name) => this.#volumes.get(name)?.admission ?? []);
    try {
      // Every request is wholly before or wholly after.
      await Promise.all(doors.map((door) => door.close()));
      return await action();
    } finally {
      for (const door of doors) door.open();
    }
  }

  #mustBeFree(name: string): void {
    const at = name.lastIndexOf("@");
    if (at > 0 && this.registry.hasSnapshot(name.slice(0, at), name.slice(at + 1))) {
      throw new KelpieError("exists", `"${name}" is the name of a snapshot's export`);
    }
    if (!this.registry.working.has(name)) return;
    throw new KelpieError("exists", `there is a disk "${name}" already`);
  }

  #tagMustBeFree(name: string, tag: string): void {
    if (tag !== "" && this.registry.working.has(`${name}@${tag}`)) {
      throw new KelpieError("exists", `there is a disk "${name}@${tag}": the snapshot's export`);
    }
    if (tag === "" || !this.registry.snapshotsOf(name).some((entry) => entry.tag === tag)) return;
    throw new KelpieError("exists", `disk "${name}" has a snapshot "${tag}" already`);
  }

  #findDiscarded(name: string, point: number | undefined) {
    const found = this.registry
      .discardedOf(name)
      .find((entry) => point === undefined || entry.point === point);
    if (found !== undefined && this.#claimed.has(found.point)) {
      throw new KelpieError("busy", `what is discarded of "${name}" is being purged`);
    }
    if (found !== undefined) return found;
    const what = point === undefined ? "nothing discarded" : `no discarded tip ${point}`;
    throw new KelpieError("not-found", `disk "${name}" has ${what} to bring back`, {
      remedy: "`kelpie vdi list --discarded` shows what there is.",
    });
  }

  #mayMove(name: string, sizeBytes: number, live: boolean): void {
    const clients = this.attachments.count(name);
    if (clients === 0) return;
    if (!live) {
      throw new KelpieError("busy", `disk "${name}" is in use by ${clientsText(clients)}`, {
        remedy: "Disconnect them, or use --live if what runs on it can bear the change.",
      });
    }
    if (sizeBytes !== this.point(name).sizeBytes) {
      throw new KelpieError("busy", `disk "${name}" is in use and its size would change`, {
        remedy: "Disconnect its clients first.",
      });
    }
  }

  #mustNotBeUsed(name: string, what: string, snapId?: number): void {
    const key = snapId === undefined ? name : attachmentKey(name, snapId);
    const clients = this.attachments.count(key);
    if (clients === 0) return;
    const whole = snapId === undefined ? `disk "${name}"` : `snapshot ${snapId} of "${name}"`;
    throw new KelpieError("busy", `cannot ${what} ${whole}: in use by ${clientsText(clients)}`, {
      remedy: `Disconnect them first; \`kelpie vdi info ${name}\` lists them.`,
    });
  }

  #mayShrink(name: string, shrink: boolean): void {
    if (!shrink) {
      throw new KelpieError("invalid", `disk "${name}" would get smaller and lose data`, {
        remedy: "Add --shrink if that is what you want.",
      });
    }
    this.#mustNotBeUsed(name, "shrink");
  }
}

/** Under which snapshots are listed in `attachments`; a working VDI is under its name. */
export function attachmentKey(name: string, snapId: number): string {
  return `${name}\0${snapId}`;
}

/** Points that no name leads to: a flatten that a crash cut off. */
async function deleteOrphans(store: Store, registry: VdiRegistry): Promise<void> {
  const named = new Set([...registry.working.values()].map((entry) => entry.tip));
  const orphans = [...store.state.points.values()].filter(
    ({ id, deleted }) =>
      !deleted &&
      !named.has(id) &&
      registry.snapshotAt(id) === undefined &&
      !registry.discarded.has(id),
  );
  if (orphans.length === 0) return;
  await store.commit(
    orphans.map(({ id }) => ({ type: "delete" as const, id })),
    [],
  );
}

function mustDiffer(names: readonly string[]): void {
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new KelpieError("invalid", `disk "${twice}" is named twice`);
}

function writtenMeanwhile(name: string): KelpieError {
  return new KelpieError("busy", `disk "${name}" was written while it was being flattened`, {
    remedy: "Do it again when nobody uses the disk.",
  });
}

function clientsText(count: number): string {
  return count === 1 ? "1 client" : `${count} clients`;
}

export type { Working };
