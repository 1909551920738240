import type { Vdis } from "../../src/vdi/vdis.ts";
import type { SeededRandom } from "../random.ts";
import {
  emptyTip,
  large,
  type ModelDiscarded,
  type ModelDisk,
  type ModelSnapshot,
  sectorsOf,
  shareUnanswered,
  small,
  tipOn,
} from "./disks.ts";
import { ModelTip, type Moment } from "./model.ts";
import { mayGiveUp } from "./plan.ts";
import type { World } from "./world.ts";

/** Something structural that an actor does: it is done, or it is not. */
export interface Operation {
  kind: string;
  what: string;
  run: (vdis: Vdis) => Promise<unknown>;
  /** Whether the store says that it is done; throws if it says both. */
  isDone: (vdis: Vdis) => boolean;
  /** What the model makes of it when it begins, when it is done, and when it is not. */
  begin?: () => void;
  done: (vdis: Vdis, times: { asked: Moment; answered: Moment }) => void;
  notDone?: () => void;
  /** It may find that there is nothing to do. */
  mayDoNothing?: boolean;
  /** Lets others do something with what it used. */
  release: () => void;
}

type Make = (world: World, random: SeededRandom) => Operation | undefined;

/** One that can be done now, or none. */
export function chooseOperation(world: World, random: SeededRandom): Operation | undefined {
  const make = makers[random.below(makers.length)] as Make;
  return make(world, random);
}

const disksMax = 6;
const snapshotsMax = 12;

export const createOperation = ({ model }: World): Operation | undefined => {
  if (model.disks.size >= disksMax) return undefined;
  const name = model.newName("disk");
  return {
    kind: "create",
    what: name,
    run: (vdis) => vdis.create(name, large.bytes),
    isDone: (vdis) => vdis.registry.working.has(name),
    done: () => void model.addDisk(name, emptyTip()),
    release: () => {},
  };
};

const snapshot: Make = (world, random) => {
  const { model } = world;
  if (model.snapshots.length >= snapshotsMax) return undefined;
  const first = idleDisk(world, random);
  if (first === undefined) return undefined;
  const disks = [first];
  for (const other of model.disks.values()) {
    if (other !== first && !other.isBusy && random.below(3) === 0) disks.push(other);
  }
  const tag = model.newName("tag");
  const names = disks.map(({ name }) => name);
  const tips = disks.map(({ tip }) => tip);
  return {
    kind: disks.length > 1 ? "group snapshot" : "snapshot",
    what: `${names.join(", ")} as ${tag}`,
    run: (vdis) => vdis.snapshot(names, tag),
    isDone: (vdis) => allOrNone(names, (name) => vdis.registry.hasSnapshot(name, tag)),
    begin: () => setBusy(disks, true),
    done: (vdis, { asked, answered }) => {
      const taken = { asked, answered, tips };
      const group = names.map((disk): ModelSnapshot => {
        const { point } = vdis.registry.findSnapshot(disk, tag);
        const sectors = sectorsOf(vdis, point);
        return { disk, tag, point, sectors, values: undefined, taken, isBusy: false };
      });
      model.snapshots.push(...group);
      for (const tip of tips) tip.durableBefore = Math.max(tip.durableBefore, asked);
      world.readLater(group);
    },
    release: () => setBusy(disks, false),
  };
};

const rollback: Make = (world, random) => {
  const { model } = world;
  const snapshot = readSnapshot(world, random);
  if (snapshot === undefined) return undefined;
  const together = model.snapshots.filter(
    ({ tag, isBusy, values }) => tag === snapshot.tag && !isBusy && values !== undefined,
  );
  const group = random.below(2) === 0 ? [snapshot] : together;
  const moves: { disk: ModelDisk; snapshot: ModelSnapshot }[] = [];
  for (const one of group) {
    const disk = model.disks.get(one.disk);
    if (disk === undefined || disk.isBusy) return undefined;
    // Whoever has it open would write behind its end.
    if (one.sectors !== disk.tip.sectors && disk.sessions > 0) return undefined;
    moves.push({ disk, snapshot: one });
  }
  const disks = moves.map(({ disk }) => disk);
  const names = disks.map(({ name }) => name);
  const live = random.below(4) > 0;
  const before = new Map<string, number>();
  return {
    kind: `${live ? "live " : ""}rollback`,
    what: `${names.join(", ")} to ${snapshot.tag}`,
    run: (vdis) => {
      for (const name of names) before.set(name, vdis.registry.find(name).tip);
      return vdis.rollback(names, snapshot.tag, live);
    },
    isDone: (vdis) => allOrNone(names, (name) => vdis.registry.find(name).tip !== before.get(name)),
    begin: () => {
      setBusy(disks, true);
      for (const move of moves) {
        move.snapshot.isBusy = true;
        beginMove(move.disk, tipOn(move.snapshot));
      }
    },
    done: (_vdis, { asked }) => {
      for (const { disk } of moves) {
        disk.tip.durableBefore = Math.max(disk.tip.durableBefore, asked);
        const point = before.get(disk.name) as number;
        const { tip, name } = disk;
        endMove(disk);
        model.discarded.push({ name, point, tip, isBusy: false });
      }
    },
    notDone: () => {
      for (const { disk } of moves) disk.next = undefined;
    },
    release: () => {
      setBusy(disks, false);
      for (const move of moves) move.snapshot.isBusy = false;
    },
  };
};

const clone: Make = (world, random) => {
  const { model } = world;
  const base = readSnapshot(world, random);
  if (base === undefined || model.disks.size >= disksMax) return undefined;
  const name = model.newName("clone");
  return {
    kind: "clone",
    what: `${base.disk}@${base.tag} as ${name}`,
    run: (vdis) => vdis.clone(base.disk, base.tag, name),
    isDone: (vdis) => vdis.registry.working.has(name),
    begin: () => {
      base.isBusy = true;
    },
    done: () => void model.addDisk(name, tipOn(base)),
    release: () => {
      base.isBusy = false;
    },
  };
};

const deleteDisk: Make = (world, random) => {
  const { model } = world;
  const disk = idleDisk(world, random);
  if (disk === undefined || model.disks.size <= 2) return undefined;
  const { name } = disk;
  let point = 0;
  return {
    kind: "delete",
    what: name,
    run: (vdis) => {
      point = vdis.registry.find(name).tip;
      return vdis.delete(name);
    },
    isDone: (vdis) => !vdis.registry.working.has(name),
    begin: () => setBusy([disk], true),
    done: (_vdis, { asked }) => {
      const { tip } = disk;
      tip.durableBefore = Math.max(tip.durableBefore, asked);
      model.disks.delete(name);
      model.discarded.push({ name, point, tip, isBusy: false });
    },
    release: () => setBusy([disk], false),
  };
};

const undelete: Make = (world, random) => {
  const { model } = world;
  const entry = pick(
    model.discarded.filter(({ isBusy }) => !isBusy),
    random,
  );
  if (entry === undefined) return undefined;
  const { name, point } = entry;
  const disk = model.disks.get(name);
  if (disk === undefined && model.disks.size >= disksMax) return undefined;
  // Two at once: the second would find the disk that the first brought back, and discard it.
  if (model.discarded.some((other) => other.name === name && other.isBusy)) return undefined;
  return disk === undefined
    ? undeleteGone(world, entry)
    : undeleteOver(world, { entry, disk, name, point, live: random.below(4) > 0 });
};

function undeleteGone({ model }: World, entry: ModelDiscarded): Operation {
  const { name, point, tip } = entry;
  return {
    kind: "undelete",
    what: `${name} (${point})`,
    run: (vdis) => vdis.undelete(name, { point }),
    isDone: (vdis) => vdis.registry.working.get(name)?.tip === point,
    begin: () => {
      entry.isBusy = true;
    },
    done: () => {
      model.discarded = model.discarded.filter((other) => other !== entry);
      model.addDisk(name, tip);
    },
    release: () => {
      entry.isBusy = false;
    },
  };
}

function undeleteOver(
  { model }: World,
  parts: { entry: ModelDiscarded; disk: ModelDisk; name: string; point: number; live: boolean },
): Operation | undefined {
  const { entry, disk, name, point, live } = parts;
  if (disk.isBusy) return undefined;
  if (disk.tip.sectors !== entry.tip.sectors && disk.sessions > 0) return undefined;
  let before = 0;
  return {
    kind: "undelete",
    what: `${name} (${point}) in place of what there is`,
    run: (vdis) => {
      before = vdis.registry.find(name).tip;
      return vdis.undelete(name, { point, live });
    },
    isDone: (vdis) => vdis.registry.find(name).tip === point,
    begin: () => {
      setBusy([disk], true);
      entry.isBusy = true;
      beginMove(disk, entry.tip);
    },
    done: (_vdis, { asked }) => {
      const { tip } = disk;
      tip.durableBefore = Math.max(tip.durableBefore, asked);
      endMove(disk);
      model.discarded = model.discarded.filter((other) => other !== entry);
      model.discarded.push({ name, point: before, tip, isBusy: false });
    },
    notDone: () => {
      disk.next = undefined;
    },
    release: () => {
      setBusy([disk], false);
      entry.isBusy = false;
    },
  };
}

const deleteSnapshot: Make = (world, random) => {
  const { model } = world;
  const snapshot = readSnapshot(world, random);
  if (snapshot === undefined) return undefined;
  const { disk, tag } = snapshot;
  return {
    kind: "delete snapshot",
    what: `${disk}@${tag}`,
    run: (vdis) => vdis.deleteSnapshot(disk, tag),
    isDone: (vdis) => !vdis.registry.hasSnapshot(disk, tag),
    begin: () => {
      snapshot.isBusy = true;
    },
    done: () => {
      model.snapshots = model.snapshots.filter((other) => other !== snapshot);
    },
    release: () => {
      snapshot.isBusy = false;
    },
  };
};

const purge: Make = ({ model, plan }) => {
  const isSole = !mayGiveUp(plan);
  const entries = model.discarded.filter(({ isBusy }) => !isBusy);
  const first = entries[0];
  if (first === undefined) return undefined;
  const mine = entries.filter(({ name }) => name === first.name);
  // Others of the name may be on their way back: who is told nothing of them.
  if (model.discarded.some(({ name, isBusy }) => name === first.name && isBusy)) return undefined;
  const points = mine.map(({ point }) => point);
  return {
    kind: "purge",
    what: first.name,
    run: (vdis) => vdis.purge(first.name),
    // Those that grew too old meanwhile are gone in any case.
    isDone: (vdis) =>
      isSole
        ? allOrNone(points, (point) => !vdis.registry.discarded.has(point))
        : points.every((point) => !vdis.registry.discarded.has(point)),
    mayDoNothing: !isSole,
    begin: () => {
      for (const entry of mine) entry.isBusy = true;
    },
    done: () => {
      model.discarded = model.discarded.filter((entry) => !mine.includes(entry));
    },
    release: () => {
      for (const entry of mine) entry.isBusy = false;
    },
  };
};

const resize: Make = (world, random) => {
  const disk = idleDisk(world, random);
  if (disk === undefined) return undefined;
  const { name, tip } = disk;
  const isShrink = tip.sectors === large.sectors;
  if (isShrink && disk.sessions > 0) return undefined;
  const to = isShrink ? small : large;
  return {
    kind: isShrink ? "shrink" : "grow",
    what: name,
    run: (vdis) => vdis.resize(name, to.bytes, isShrink),
    isDone: (vdis) => vdis.point(name).sizeBytes === to.bytes,
    begin: () => {
      setBusy([disk], true);
      disk.isResizing = isShrink;
    },
    done: (_vdis, { asked, answered }) => {
      tip.sectors = to.sectors;
      if (isShrink) return;
      // Whatever stood there before.
      const { changes, durable } = tip;
      const [from, end] = [small.sectors, large.sectors];
      const zeros = { request: 0, from, to: end, asked, answered, isWhole: false };
      changes.push(zeros);
      durable.add(zeros);
    },
    release: () => setBusy([disk], false),
  };
};

const flatten: Make = (world, random) => {
  const { model } = world;
  const disk = idleDisk(world, random);
  if (disk === undefined || disk.sessions > 0) return undefined;
  const { name, tip } = disk;
  let before = 0;
  return {
    kind: "flatten",
    what: name,
    mayDoNothing: true,
    run: (vdis) => {
      before = vdis.registry.find(name).tip;
      return vdis.flatten(name);
    },
    isDone: (vdis) => vdis.registry.find(name).tip !== before,
    begin: () => {
      setBusy([disk], true);
      disk.next = copyOf(tip);
      disk.tips.push(disk.next);
    },
    done: (_vdis, { asked }) => {
      tip.durableBefore = Math.max(tip.durableBefore, asked);
      endMove(disk);
      disk.tip.durableBefore = tip.durableBefore;
      model.discarded.push({ name, point: before, tip, isBusy: false });
    },
    notDone: () => {
      disk.next = undefined;
    },
    release: () => setBusy([disk], false),
  };
};

const makers: readonly Make[] = [
  createOperation,
  snapshot,
  snapshot,
  snapshot,
  snapshot,
  rollback,
  rollback,
  rollback,
  clone,
  clone,
  deleteDisk,
  undelete,
  undelete,
  deleteSnapshot,
  deleteSnapshot,
  purge,
  resize,
  resize,
  flatten,
];

function beginMove(disk: ModelDisk, next: ModelTip): void {
  disk.isResizing = disk.tip.sectors !== next.sectors;
  shareUnanswered(disk.tip, next);
  disk.next = next;
  disk.tips.push(next);
}

/** The old tip was flushed, and what it held then is kept. */
function endMove(disk: ModelDisk): void {
  const { next } = disk;
  if (next === undefined) return;
  disk.tip = next;
  disk.next = undefined;
}

/** The same in another place; what is not answered may be in either. */
function copyOf(tip: ModelTip): ModelTip {
  const copy = new ModelTip(tip.base, tip.sectors);
  copy.durableBefore = tip.durableBefore;
  for (const change of tip.changes) {
    if (change.answered === Number.POSITIVE_INFINITY) change.isShared = true;
    const own = { ...change };
    copy.changes.push(own);
    if (tip.durable.has(change)) copy.durable.add(own);
  }
  return copy;
}

function idleDisk({ model }: World, random: SeededRandom): ModelDisk | undefined {
  return pick(
    [...model.disks.values()].filter(({ isBusy }) => !isBusy),
    random,
  );
}

function readSnapshot({ model }: World, random: SeededRandom): ModelSnapshot | undefined {
  const usable = model.snapshots.filter((one) => !one.isBusy && one.values !== undefined);
  return pick(usable, random);
}

function pick<T>(choices: readonly T[], random: SeededRandom): T | undefined {
  return choices[random.below(choices.length)];
}

function setBusy(disks: readonly ModelDisk[], isBusy: boolean): void {
  for (const disk of disks) {
    disk.isBusy = isBusy;
    disk.isResizing = false;
  }
}

/** All disks of a group are on the same side of what was done to it. */
function allOrNone<T>(things: readonly T[], isDone: (thing: T) => boolean): boolean {
  const done = things.filter(isDone).length;
  if (done !== 0 && done !== things.length) {
    throw new Error(`done to ${done} of ${things.join(", ")}`);
  }
  return done > 0;
}
