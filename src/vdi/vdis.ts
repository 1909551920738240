import { isKelpieError, KelpieError } from "../base/errors.ts";
import { Mutex } from "../base/mutex.ts";
import type { Host } from "../host/host.ts";
import type { PointChange } from "../store/formats/catalog-record.ts";
import type { Point } from "../store/point.ts";
import { Store, type StoreComponents, type StoreSettings } from "../store/store.ts";
import type { Along } from "./along.ts";
import { Attachments, type Protocol } from "./attachments.ts";
import { type CopyProgress, copyBlocks } from "./copy-blocks.ts";
import { type DiskSettings, settingsNotes } from "./disk-settings.ts";
import { findDiscarded } from "./find-discarded.ts";
import { mustBeFree, tagMustBeFree } from "./free-names.ts";
import { History } from "./history.ts";
import { NameLocks } from "./name-locks.ts";
import { checkName, checkSize, checkTag } from "./names.ts";
import type { Note } from "./notes.ts";
import { ExtraVolumes } from "./objects/extra-volumes.ts";
import { VidLocks } from "./objects/vid-locks.ts";
import { type VidChoice, Vids } from "./objects/vids.ts";
import { OpenVolumes } from "./open-volumes.ts";
import { deleteOrphans } from "./orphans.ts";
import {
  belongsToVm,
  cannotWhileUsed,
  isBeingPurged,
  isInUse,
  isOfVm,
  mustDiffer,
  mustFitObjects,
  sizeWouldChange,
  wouldMixHistories,
  writtenMeanwhile,
} from "./refusals.ts";
import { VdiRegistry, type Working } from "./registry.ts";
import { type KeepDiscarded, Retention } from "./retention.ts";
import { checkHistory } from "./snapshot-history.ts";
import type { Volume } from "./volume.ts";

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
  readonly extras: ExtraVolumes;
  readonly attachments = new Attachments();
  readonly vidLocks = new VidLocks();
  readonly #retention: Retention;
  readonly #host: Host;
  readonly volumes: OpenVolumes;
  readonly locks = new NameLocks();
  /** Discarded points that are being brought back or given up just now: never both. */
  readonly #claimed = new Set<number>();
  readonly #purging = new Mutex();

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
    this.#host = host;
    this.registry = registry;
    this.history = new History({ store, registry });
    this.vids = new Vids({ store, registry });
    this.extras = new ExtraVolumes({ store, registry, history: this.history });
    this.volumes = new OpenVolumes({ store, registry, history: this.history, host });
    this.#retention = new Retention(
      { keep },
      { store, registry, host, purge: (p) => this.#purge(p) },
    );
    this.#retention.start();
  }

  /** Of a rollback in two requests: what the first one discarded is not given up before the second. */
  spareDiscarded(point: number, durationMs: number): void {
    this.#retention.spare(point, this.#host.clock.nowMs() + durationMs);
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
    return this.volumes.get(name);
  }

  async create(name: string, sizeBytes: number, settings: DiskSettings = {}): Promise<void> {
    checkName(name);
    checkSize(sizeBytes);
    return this.locks.run([name], async () => {
      mustBeFree(this.registry, name);
      const id = this.store.allocateId();
      const change: PointChange = { type: "point", id, parent: 0, sizeBytes };
      const notes: Note[] = [{ type: "create", name, tip: id }];
      await this.#commit([change], [...notes, ...settingsNotes(name, settings)]);
    });
  }

  async clone(source: string, snapshot: string, name: string): Promise<void> {
    checkName(name);
    return this.locks.run([source, name], async () => {
      mustBeFree(this.registry, name);
      const base = this.point(source, snapshot);
      const id = this.store.allocateId();
      const { sizeBytes } = base;
      const change: PointChange = { type: "point", id, parent: base.id, sizeBytes };
      await this.#commit([change], [{ type: "create", name, tip: id }]);
    });
  }

  /** One snapshot of each disk, all of one moment, while they are written. */
  async snapshot(names: readonly string[], tag = "", along: Along = {}): Promise<void> {
    if (tag !== "" && along.vids === undefined) checkTag(tag);
    mustDiffer(names);
    const { replacing = [] } = along;
    return this.locks.run([...names, ...this.#namesOf(replacing)], () =>
      this.#choosing(replacing, along.vids !== undefined, async (deletion, choice) => {
        const notes: Note[] = [...deletion.notes];
        const points: number[] = [];
        const requests = names.map((name) => {
          const { snapId, tip } = this.registry.find(name);
          tagMustBeFree(this.registry, { name, tag, replacing });
          const id = this.store.allocateId();
          const history = along.history === undefined ? {} : checkHistory(along.history, snapId);
          notes.push({ type: "snapshot", name, snapId, tag, tip: id, ...history });
          points.push(tip);
          return { tip: this.volume(name).tip, id };
        });
        notes.push(...(along.notes?.(points) ?? []));
        if (choice !== undefined) {
          along.vids?.(choice, { point: points, tip: requests.map(({ id }) => id) });
          notes.push(...choice.notes());
        }
        await this.volumes.holdingVids(names, () =>
          this.store.snapshot(requests, notes, deletion.changes),
        );
      }),
    );
  }

  /**
   * Puts a new working VDI on a snapshot of each disk, in one step. Newer snapshots stay, no snapshot is
   * made, and the old working VDI can be brought back until it is purged.
   */
  rollback(names: readonly string[], snapshot: string, live: boolean): Promise<void> {
    const targets = names.map((name) => ({ name, snapshot }));
    return this.rollbackEach(targets, { live, notes: [] });
  }

  /** The same, to a snapshot of its own for each disk; with notes for the record. */
  async rollbackEach(
    targets: readonly { name: string; snapshot: string }[],
    options: { live: boolean; notes: readonly Note[] },
  ): Promise<void> {
    const names = targets.map(({ name }) => name);
    mustDiffer(names);
    return this.locks.run(names, async () => {
      const moves = targets.map(({ name, snapshot }) => {
        this.registry.find(name);
        const base = this.point(name, snapshot);
        return { name, to: { kind: "new" as const, base, sizeBytes: base.sizeBytes } };
      });
      for (const { name, to } of moves) this.#mayMove(name, to.sizeBytes, options.live);
      const notes: Note[] = [...options.notes];
      const requests = moves.map(({ name, to }) => {
        const id = this.store.allocateId();
        notes.push({ type: "replace", name, tip: id, why: "rollback" });
        return { tip: this.volume(name).tip, to: { ...to, id } };
      });
      await this.volumes.behindBarrier(names, () => this.store.move(requests, notes));
    });
  }

  /** Of the working VDI: its snapshots stay, and it can be brought back until it is purged. */
  delete(name: string, options: { ignoring?: Protocol } = {}): Promise<void> {
    return this.locks.run([name], () => this.deleteHolding(name, options));
  }

  /** The same, for who holds the lock of the name; `record` says it if it is not the usual one. */
  async deleteHolding(
    name: string,
    options: { ignoring?: Protocol; record?: { changes: PointChange[]; notes: Note[] } },
  ): Promise<void> {
    this.registry.find(name);
    const vm = this.registry.vms.ofDisk(name);
    if (vm !== undefined) throw isOfVm(name, vm.name);
    this.mustNotBeUsed(name, "delete", options);
    const usual: Note = { type: "delete", name };
    const { changes, notes } = options.record ?? { changes: [], notes: [usual] };
    // Made if there is none yet: who opens the disk meanwhile must come to a door that is shut.
    const volume = this.volume(name);
    await this.volumes.behindBarrier([name], async () => {
      await this.store.closeTip(volume.tip);
      await this.#commit(changes, notes);
      this.volumes.retire(name);
    });
  }

  async deleteSnapshot(name: string, snapshot: string): Promise<void> {
    const { point, snapId } = this.registry.findSnapshot(name, snapshot);
    const owner = this.registry.vms.ofPoint(point);
    if (owner !== undefined) throw belongsToVm(`snapshot ${snapId} of "${name}"`, owner);
    return this.deleteSnapshots([point], []);
  }

  /** All of them in one record, with notes for it. */
  async deleteSnapshots(points: readonly number[], notes: readonly Note[]): Promise<void> {
    return this.locks.run(this.#namesOf(points), () =>
      this.#choosing(points, false, (deletion, choice) => {
        const vids = choice?.notes() ?? [];
        return this.#commit(deletion.changes, [...deletion.notes, ...notes, ...vids]);
      }),
    );
  }

  /** A record that changes no disk. */
  note(notes: Note[]): Promise<void> {
    return this.#commit([], notes);
  }

  /**
   * Disks that begin as snapshots, or as the working VDI `now` is at this moment, in one record. What that
   * one is copied from cannot be seen and goes when it is not needed.
   */
  async cloneEach(
    clones: readonly { point: number; name: string }[],
    now: { source: string; name: string },
    notes: readonly Note[],
  ): Promise<void> {
    const names = [...clones.map(({ name }) => name), now.name];
    for (const name of names) checkName(name);
    mustDiffer(names);
    const sources = this.#namesOf(clones.map(({ point }) => point));
    return this.locks.run([...names, ...sources, now.source], async () => {
      for (const name of names) mustBeFree(this.registry, name);
      const all: Note[] = [];
      const changes: PointChange[] = [];
      const { tip: frozen, snapId } = this.registry.find(now.source);
      const tip = this.store.allocateId();
      for (const { point, name } of [...clones, { point: frozen, name: now.name }]) {
        const id = this.store.allocateId();
        const { sizeBytes } = this.store.point(point);
        changes.push({ type: "point", id, parent: point, sizeBytes });
        all.push({ type: "create", name, tip: id });
      }
      all.push({ type: "snapshot", name: now.source, snapId, tag: "", tip });
      all.push({ type: "deleteSnapshot", point: frozen });
      const request = { tip: this.volume(now.source).tip, id: tip };
      await this.extras.deleting([frozen], (dropped) =>
        this.vids.run(async (choice) => {
          // What is read by its vid is read through the new one when the old one is gone.
          if (this.registry.objects.vids.ofPoint(frozen) !== undefined) {
            choice.addNew(tip, { name: now.source, parent: this.store.point(frozen) });
          }
          const record = [...all, ...notes, ...choice.notes()];
          await this.volumes.holdingVids([now.source], () =>
            this.store.snapshot([request], record, [...changes, ...dropped]),
          );
        }),
      );
    });
  }

  /** Brings a discarded tip back: the newest of the name, or the one with that point. */
  undelete(name: string, options: { point?: number; as?: string; live?: boolean }): Promise<void> {
    const { point, as, live = false } = options;
    if (as !== undefined) checkName(as);
    const target = as ?? name;
    return this.locks.run([name, target], async () => {
      const found = findDiscarded(this.registry, { name, point });
      if (this.#claimed.has(found.point)) throw isBeingPurged(name);
      if (as !== undefined) mustBeFree(this.registry, as);
      await this.claiming([found.point], () => this.#bringBack(found.point, target, live));
    });
  }

  /**
   * Gives discarded tips up; of one name, or all. Says how many, and not before those are gone too that
   * were being given up already.
   */
  purge(name?: string): Promise<number> {
    const all = [...this.registry.discarded.values()];
    const mine = all.filter((entry) => name === undefined || entry.name === name);
    return this.#purge(mine.map((entry) => entry.point));
  }

  async resize(name: string, sizeBytes: number, shrink: boolean): Promise<void> {
    checkSize(sizeBytes);
    return this.locks.run([name], async () => {
      const point = this.point(name);
      const before = point.sizeBytes;
      if (sizeBytes === before) return;
      mustFitObjects(name, { sizeBytes, vid: this.registry.objects.vids.ofPoint(point.id) });
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
    return this.locks.run([name], async () => {
      const point = this.point(name);
      if (point.parent === undefined) return;
      this.mustNotBeUsed(name, "flatten");
      const id = this.store.allocateId();
      const { sizeBytes } = point;
      await this.volume(name).tip.log?.drained();
      const before = point.map.share();
      await this.#commit([{ type: "point", id, parent: 0, sizeBytes }], []);
      const tip = this.store.tip(this.store.point(id));
      try {
        await copyBlocks({ store: this.store, from: point, to: tip }, options);
        this.mustNotBeUsed(name, "flatten");
        await tip.flush();
        await this.store.closeTip(tip);
        const to = { kind: "existing" as const, point: tip.point };
        const note: Note = { type: "replace", name, tip: id, why: "flatten" };
        await this.volumes.behindBarrier([name], async () => {
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
    await this.volumes.closeAll(() => this.store.close());
  }

  /**
   * What a record says that deletes snapshots. `action` makes it; if that gives vids, or the snapshots had
   * some, with a choice of vids, whose notes are the record's last.
   */
  async #choosing(
    points: readonly number[],
    givesVids: boolean,
    action: (
      deletion: { changes: PointChange[]; notes: Note[] },
      choice: VidChoice | undefined,
    ) => Promise<void>,
  ): Promise<void> {
    for (const point of points) {
      const entry = this.registry.snapshotAt(point);
      if (entry === undefined) throw new KelpieError("not-found", `snapshot ${point} is gone`);
      this.mustNotBeUsed(entry.name, "delete", { snapId: entry.snapId });
    }
    const notes = points.map((point): Note => ({ type: "deleteSnapshot", point }));
    const { vids } = this.registry.objects;
    const withVid = points.filter((point) => vids.ofPoint(point) !== undefined);
    await this.extras.deleting(points, async (changes) => {
      if (!givesVids && withVid.length === 0) return await action({ changes, notes }, undefined);
      await this.vids.run(async (choice) => {
        // What is read by the vids of these snapshots is read through them from here on.
        for (const point of withVid) choice.addChildren(this.store.point(point));
        await action({ changes, notes }, choice);
      });
    });
  }

  #namesOf(points: readonly number[]): string[] {
    return points.flatMap((point) => this.registry.snapshotAt(point)?.name ?? []);
  }

  #commit(changes: PointChange[], notes: Note[]): Promise<void> {
    return this.store.commit(changes, notes);
  }

  async #bringBack(discarded: number, target: string, live: boolean): Promise<void> {
    const point = this.store.point(discarded);
    const isThere = this.registry.working.has(target);
    if (isThere) this.#mayMove(target, point.sizeBytes, live);
    if (!isThere) {
      await this.#commit([], [{ type: "create", name: target, tip: discarded }]);
      return;
    }
    const note: Note = { type: "replace", name: target, tip: discarded, why: "undelete" };
    // Open before the barrier is: it holds those that are open.
    const { tip } = this.volume(target);
    await this.volumes.behindBarrier([target], () =>
      this.store.move([{ tip, to: { kind: "existing", point } }], [note]),
    );
  }

  #purge(points: readonly number[]): Promise<number> {
    return this.#purging.run(async () => {
      const free = points.filter(
        (point) => this.registry.discarded.has(point) && !this.#claimed.has(point),
      );
      if (free.length === 0) return 0;
      const notes = free.map((point): Note => ({ type: "purge", point }));
      await this.claiming(free, () =>
        this.extras.deleting(free, (changes) => this.#commit(changes, notes)),
      );
      return free.length;
    });
  }

  /**
   * Discarded points that are being brought back are not given up meanwhile. Must begin in the turn in
   * which they were looked at.
   */
  async claiming(points: readonly number[], action: () => Promise<void>): Promise<void> {
    for (const point of points) this.#claimed.add(point);
    try {
      await action();
    } finally {
      for (const point of points) this.#claimed.delete(point);
    }
  }

  isClaimed(point: number): boolean {
    return this.#claimed.has(point);
  }

  #mayMove(name: string, sizeBytes: number, live: boolean): void {
    const clients = this.attachments.count(name);
    if (clients === 0) return;
    if (!live) throw isInUse(name, clients);
    if (this.attachments.count(name, "sheepdog") < clients) throw wouldMixHistories(name);
    if (sizeBytes !== this.point(name).sizeBytes) throw sizeWouldChange(name);
  }

  /** Clients of a protocol may be left out: Sheepdog's own operations do not ask about them. */
  mustNotBeUsed(
    name: string,
    what: string,
    options: { snapId?: number; ignoring?: Protocol } = {},
  ): void {
    const { snapId, ignoring } = options;
    const key = snapId === undefined ? name : attachmentKey(name, snapId);
    const clients = this.attachments.count(key, ignoring);
    if (clients === 0) return;
    throw cannotWhileUsed(what, { name, snapId, clients });
  }

  #mayShrink(name: string, shrink: boolean): void {
    if (!shrink) {
      throw new KelpieError("invalid", `disk "${name}" would get smaller and lose data`, {
        remedy: "Add --shrink if that is what you want.",
      });
    }
    this.mustNotBeUsed(name, "shrink");
  }
}

/** Under which snapshots are listed in `attachments`; a working VDI is under its name. */
export function attachmentKey(name: string, snapId: number): string {
  return `${name}\0${snapId}`;
}

export type { Along, Working };
