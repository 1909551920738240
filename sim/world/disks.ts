import { assert } from "../../src/base/assert.ts";
import type { Vdis } from "../../src/vdi/vdis.ts";
import { sectorCount, sectorsWithin, sizes } from "./content.ts";
import { type Change, findCut, ModelTip, type Moment } from "./model.ts";

export interface ModelDisk {
  name: string;
  tip: ModelTip;
  /** What it will be if the move that is under way is done: requests may fall before or after it. */
  next: ModelTip | undefined;
  /** All that `tip` and `next` ever were, the newest last. */
  readonly tips: ModelTip[];
  /** A structural operation is under way. */
  isBusy: boolean;
  /** What is under way changes its size. */
  isResizing: boolean;
  /** Guests that have it open. */
  sessions: number;
  /** One of them is a client of Sheepdog, which must be the only one that writes. */
  hasSheepdog: boolean;
}

export interface ModelSnapshot {
  disk: string;
  tag: string;
  point: number;
  sectors: number;
  /** What it holds for ever; undefined until it is read for the first time. */
  values: Uint32Array | undefined;
  /** Until then: of which tip it is, with which others it was taken, and when. */
  taken: Taken;
  /** It is being deleted, or something is made from it. */
  isBusy: boolean;
}

export interface Taken {
  asked: Moment;
  answered: Moment;
  tips: ModelTip[];
}

export interface ModelDiscarded {
  name: string;
  point: number;
  tip: ModelTip;
  isBusy: boolean;
}

/** What the store must contain, held plainly. */
export class Model {
  readonly disks = new Map<string, ModelDisk>();
  snapshots: ModelSnapshot[] = [];
  discarded: ModelDiscarded[] = [];
  #moment: Moment = 0;
  #names = 0;
  #requests = 0;

  now(): Moment {
    this.#moment++;
    return this.#moment;
  }

  nextRequest(): number {
    this.#requests++;
    return this.#requests;
  }

  get requests(): number {
    return this.#requests;
  }

  newName(letter: string): string {
    this.#names++;
    return `${letter}${this.#names}`;
  }

  addDisk(name: string, tip: ModelTip): ModelDisk {
    const disk: ModelDisk = {
      name,
      tip,
      next: undefined,
      tips: [tip],
      isBusy: false,
      isResizing: false,
      sessions: 0,
      hasSheepdog: false,
    };
    this.disks.set(name, disk);
    return disk;
  }

  /** Nobody and nothing is under way any more. */
  settle(): void {
    for (const disk of this.disks.values()) {
      disk.next = undefined;
      disk.isBusy = false;
      disk.isResizing = false;
      disk.sessions = 0;
      disk.hasSheepdog = false;
    }
    for (const snapshot of this.snapshots) snapshot.isBusy = false;
    for (const entry of this.discarded) entry.isBusy = false;
  }
}

export function emptyTip(): ModelTip {
  return new ModelTip(new Uint32Array(sectorCount), sectorCount);
}

/** A tip that begins as a snapshot is. */
export function tipOn(snapshot: ModelSnapshot): ModelTip {
  const base = new Uint32Array(sectorCount);
  assert(snapshot.values !== undefined, "a snapshot that was read");
  base.set(snapshot.values);
  return new ModelTip(base, snapshot.sectors);
}

/** A request to a disk, in the history of each tip that it may have reached. */
export class PendingChange {
  readonly #changes: { tip: ModelTip; change: Change }[] = [];

  constructor(disk: ModelDisk, change: Omit<Change, "answered">) {
    const tips = disk.next === undefined ? [disk.tip] : [disk.tip, disk.next];
    for (const tip of tips) {
      const own = { ...change, answered: Number.POSITIVE_INFINITY };
      tip.changes.push(own);
      this.#changes.push({ tip, change: own });
    }
  }

  /** It reached one of them, and if there are two nobody knows which. */
  answer(moment: Moment, isDurable: boolean): void {
    const [first, second] = this.#changes;
    if (first === undefined || second !== undefined || first.change.isShared === true) return;
    first.change.answered = moment;
    if (isDurable && first.change.from < first.change.to) first.tip.durable.add(first.change);
  }
}

/** Requests to `from` that are not answered may reach `to` instead. */
export function shareUnanswered(from: ModelTip, to: ModelTip): void {
  for (const change of from.changes) {
    if (change.answered !== Number.POSITIVE_INFINITY) continue;
    change.isShared = true;
    to.changes.push({ ...change });
  }
}

/** Reads snapshots that were taken together, and finds the moment that they are of. */
export function acceptSnapshots(snapshots: ModelSnapshot[], values: Uint32Array[]): void {
  const taken = (snapshots[0] as ModelSnapshot).taken;
  const cut = findCut(
    snapshots.map((snapshot, at) => ({
      name: `snapshot ${snapshot.tag} of ${snapshot.disk}`,
      tip: taken.tips[at] as ModelTip,
      values: values[at] as Uint32Array,
      after: taken.asked,
      before: taken.answered,
      isAfterCrash: false,
    })),
  );
  snapshots.forEach((snapshot, at) => {
    snapshot.values = values[at] as Uint32Array;
    (taken.tips[at] as ModelTip).keep(cut, at);
  });
}

export function sectorsOf(vdis: Vdis, point: number): number {
  return sectorsWithin(vdis.store.point(point).sizeBytes);
}

export const large = { sectors: sectorCount, bytes: sizes.large };
export const small = { sectors: sectorsWithin(sizes.small), bytes: sizes.small };
