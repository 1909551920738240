import { messageOf } from "../../src/base/errors.ts";
import { checkStore } from "../../src/store/check.ts";
import { acceptSnapshots, sectorsOf } from "./disks.ts";
import type { Crashed } from "./machine.ts";
import { findCut, type ModelTip } from "./model.ts";
import { mayGiveUp } from "./plan.ts";
import { readPoint } from "./read-point.ts";
import type { World } from "./world.ts";

/**
 * Holds a store that was just opened, and that nobody uses, against the model: which operations were done,
 * what each disk, snapshot and discarded tip holds, and whether the store agrees with itself.
 */
export async function verifyAfter(
  world: World,
  { left, isLast }: { left?: Crashed; isLast: boolean },
): Promise<void> {
  const { model, machine, pending } = world;
  const { vdis } = machine;
  world.isVerifying = true;
  for (const { operation, asked } of pending) {
    world.must(() => {
      const isDone = operation.isDone(vdis);
      world.trace.note(`${operation.kind} ${operation.what}: ${isDone ? "was" : "was not"} done`);
      if (isDone) operation.done(vdis, { asked, answered: Number.POSITIVE_INFINITY });
      else operation.notDone?.();
      operation.release();
    }, `${operation.kind} ${operation.what}`);
  }
  pending.clear();
  await newSnapshots(world);
  forgetGivenUp(world);
  sameNames(world);
  await tips(world, left);
  await snapshots(world);
  model.settle();
  world.isVerifying = false;
  await store(world, isLast);
}

async function newSnapshots(world: World): Promise<void> {
  const { vdis } = world.machine;
  for (const group of world.unread) {
    // One of them may have been deleted since: then it says nothing.
    const there = group.every(({ disk, tag }) => vdis.registry.hasSnapshot(disk, tag));
    if (!there) continue;
    const found: Uint32Array[] = [];
    for (const one of group) {
      one.point = vdis.registry.findSnapshot(one.disk, one.tag).point;
      one.sectors = sectorsOf(vdis, one.point);
      found.push(await readPoint(vdis.store, one.point, one.sectors));
    }
    world.must(() => acceptSnapshots(group, found), "a snapshot of which nobody had heard");
  }
  world.unread = [];
}

/** Discarded tips that were too old. */
function forgetGivenUp({ model, machine, plan }: World): void {
  if (!mayGiveUp(plan)) return;
  const { discarded } = machine.vdis.registry;
  model.discarded = model.discarded.filter(({ point }) => discarded.has(point));
}

function sameNames(world: World): void {
  const { model, machine } = world;
  const { registry } = machine.vdis;
  const same = (what: string, found: Iterable<string>, expected: Iterable<string>): void => {
    const [a, b] = [[...found].sort().join(" "), [...expected].sort().join(" ")];
    if (a !== b) world.fail(`there are ${what} ${a}, and there should be ${b}`);
  };
  same("disks", registry.working.keys(), model.disks.keys());
  const found = registry.names().flatMap((name) => registry.snapshotsOf(name));
  const named = found.map(({ name, tag }) => `${name}@${tag}`);
  same(
    "snapshots",
    named,
    model.snapshots.map(({ disk, tag }) => `${disk}@${tag}`),
  );
  const discarded = [...registry.discarded.keys()].map(String);
  same(
    "discarded tips",
    discarded,
    model.discarded.map(({ point }) => String(point)),
  );
}

async function tips(world: World, left: Crashed | undefined): Promise<void> {
  const { model, machine } = world;
  const { vdis } = machine;
  const all: { name: string; tip: ModelTip; point: number }[] = [];
  for (const { name, tip } of model.disks.values()) {
    all.push({ name, tip, point: vdis.registry.find(name).tip });
  }
  for (const { name, tip, point } of model.discarded) {
    all.push({ name: `discarded ${name} (${point})`, tip, point });
  }
  const isGone = (point: number): boolean =>
    mayGiveUp(world.plan) && !vdis.store.state.points.has(point);
  for (const { name, tip, point } of all) {
    if (isGone(point)) continue;
    const sectors = sectorsOf(vdis, point);
    if (sectors !== tip.sectors) world.fail(`${name} has ${sectors} sectors, not ${tip.sectors}`);
    let values: Uint32Array;
    try {
      values = await readPoint(vdis.store, point, sectors);
    } catch (error) {
      if (isGone(point)) continue;
      world.fail(`${name} cannot be read: ${messageOf(error)}`, error);
    }
    // Purged while it was read, it has nothing.
    if (isGone(point)) continue;
    const isWhole = left?.keepsAnswered === true;
    const after = isWhole ? left.moment : tip.durableBefore;
    world.must(
      () => {
        const before = Number.POSITIVE_INFINITY;
        findCut([{ name, tip, values, after, before, isAfterCrash: true }]);
      },
      `after ${left?.site ?? "the end"}`,
    );
    tip.settle(values);
  }
}

async function snapshots(world: World): Promise<void> {
  const { model, machine } = world;
  for (const { disk, tag, point, sectors, values } of model.snapshots) {
    const found = await readPoint(machine.vdis.store, point, sectors);
    const at = found.findIndex((value, index) => value !== values?.[index]);
    if (at < 0) continue;
    const [now, before] = [found[at], values?.[at]];
    world.fail(`snapshot ${disk}@${tag} changed: sector ${at} holds ${now}, not ${before}`);
  }
}

/** The store agrees with itself, and nothing that is dead stays for ever. */
async function store(world: World, isLast: boolean): Promise<void> {
  const { store, registry } = world.machine.vdis;
  let discarded = registry.discarded.size;
  if (isLast) await store.clean();
  const { findings } = await checkStore(store, { repair: false });
  const bad = findings.filter(({ severity, message }) => {
    const isCount = message.includes("count as needed");
    return severity === "damage" || (isCount ? !world.mayLeak : isLast);
  });
  if (bad.length > 0) {
    world.fail(
      `the store's check: ${bad.map((one) => `${one.object}: ${one.message}`).join("; ")}`,
    );
  }
  if (!isLast) return;
  // The hour of a discarded tip may have ended since the cleaning: then there is more to clean.
  while (registry.discarded.size !== discarded) {
    discarded = registry.discarded.size;
    await store.clean();
  }
  for (const segment of store.state.segments.values()) {
    if (segment.live > 0 || !segment.sealed) continue;
    if (store.needsForReplay(segment.log, segment.number)) continue;
    world.fail(`segment ${segment.number} of log ${segment.log} holds nothing and is still there`);
  }
}
