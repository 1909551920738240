import assert from "node:assert/strict";
import type { MemoryDisk } from "../../sim/memory-disk.ts";
import { messageOf } from "../../src/base/errors.ts";
import { CaseWorld, openCaseStore } from "../fail-at-n/case-world.ts";
import type { CrashPoint } from "./crash-history.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { type Machine, startMachine } from "./forking-machine.ts";
import { type LossSettings, walkLosses } from "./losses.ts";
import {
  assertNothingLeaks,
  assertUndamaged,
  looseName,
  textOf,
  type VisibleState,
  visibleState,
} from "./visible-state.ts";

export interface CrashCheckSettings extends LossSettings {
  /** Of so many stores one is also written to, crashed once more, cleaned and closed. */
  goOnEvery: number;
}

export interface CrashCheckCounts {
  /** Moments at which power was cut. */
  points: number;
  /** Of them, those of which every combination of losses was looked at. */
  exhaustivePoints: number;
  /** What crashes left … */
  images: number;
  /** … and how many of those differed, and were opened. */
  opened: number;
  /** Of them, those that were then used, crashed again, cleaned and closed. */
  goneOn: number;
}

export const noCounts: CrashCheckCounts = {
  points: 0,
  exhaustivePoints: 0,
  images: 0,
  opened: 0,
  goneOn: 0,
};

/** Opens what every crash of every point may leave, and holds it against what is allowed. */
export async function checkCrashPoints(
  points: readonly CrashPoint[],
  settings: CrashCheckSettings,
): Promise<CrashCheckCounts> {
  const counts = { ...noCounts };
  const seen = new Set<string>();
  for (const [at, point] of points.entries()) {
    const seed = settings.seed + 1000 * at;
    const { images, isExhaustive } = imagesOf(point, { ...settings, seed });
    counts.points++;
    if (isExhaustive) counts.exhaustivePoints++;
    for (const { name, image } of images) {
      counts.images++;
      // Whether it may hold what it holds depends on the moment.
      const key = `${fingerprintOf(image)} ${point.possible.map(textOf).join("\n\n")}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const goesOn = counts.opened++ % settings.goOnEvery === 0;
      if (goesOn) counts.goneOn++;
      try {
        await checkImage(image, { possible: point.possible, goesOn, seed });
      } catch (error) {
        const place = `crash at [${point.where}], ${name}, seed ${seed}`;
        throw new Error(`${place}: ${messageOf(error)}`, { cause: error });
      }
    }
  }
  return counts;
}

/** What a crash at this point may leave, and what the death of the process does. */
export function imagesOf({ moment }: CrashPoint, settings: LossSettings) {
  const losses = walkLosses(settings, (chooser) => moment.afterPowerLoss(chooser));
  const died = { name: "only the process died", image: moment.afterProcessDeath() };
  return { ...losses, images: [...losses.images, died] };
}

async function checkImage(
  disk: MemoryDisk,
  what: { possible: readonly VisibleState[]; goesOn: boolean; seed: number },
): Promise<void> {
  const { possible, goesOn, seed } = what;
  const machine = startMachine({ disk, seed });
  const store = await openCaseStore(machine.host, mayBeNew(possible));
  const found = await visibleState(store);
  assertPossible(found, possible);
  await assertUndamaged(store);
  if (!goesOn) return;
  // What was seen once must not be gone after another crash, even one that follows at once.
  await expectAfterPowerLoss(machine, found);
  await goOn(new CaseWorld(store), machine, found);
}

/** A store that was not finished when power went is made again. */
export function mayBeNew(possible: readonly VisibleState[]): boolean {
  return possible.some(({ structure }) => structure === "");
}

function assertPossible(found: VisibleState, possible: readonly VisibleState[]): void {
  const texts = possible.map(textOf);
  const text = textOf(found);
  if (texts.includes(text)) return;
  const differences = texts.map((other) => differenceOf(text, other));
  differences.sort((a, b) => a.length - b.length);
  assert.fail(`none of the ${texts.length} states it may be in; the nearest:\n${differences[0]}`);
}

function differenceOf(found: string, expected: string): string {
  const [is, should] = [found.split("\n"), expected.split("\n")];
  const extra = is.filter((line) => !should.includes(line)).map((line) => `  is      ${line}`);
  const missing = should.filter((line) => !is.includes(line)).map((line) => `  not     ${line}`);
  return [...extra, ...missing].join("\n");
}

async function expectAfterPowerLoss(machine: Machine, expected: VisibleState): Promise<void> {
  const disk = machine.moment().afterPowerLoss({ below: () => 0 });
  const { host } = startMachine({ disk });
  const store = await openCaseStore(host, expected.structure === "");
  assert.equal(textOf(await visibleState(store)), textOf(expected));
}

/** The store works: it is written to, loses power, is cleaned, closed and opened. */
async function goOn(world: CaseWorld, machine: Machine, found: VisibleState): Promise<void> {
  let expected = found;
  if (found.loose !== "") {
    await world.write(looseName, 1, 90_001);
    await world.write(looseName, 15, 90_002);
    await world.flush(looseName);
    expected = await visibleState(world.store);
    assert.match(expected.loose, /\b1=90001 .*\b15=90002/);
    assert.equal(expected.structure, found.structure);
    await expectAfterPowerLoss(machine, expected);
  }
  await assertNothingLeaks(world.store);
  assert.equal(textOf(await visibleState(world.store)), textOf(expected));
  await world.store.close();
  await expectAfterPowerLoss(machine, expected);
}
