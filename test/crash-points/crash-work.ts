import { openCaseStore } from "../fail-at-n/case-world.ts";
import { workApart } from "../support/apart.ts";
import {
  type CrashCheckCounts,
  type CrashCheckSettings,
  checkCrashPoints,
  imagesOf,
  mayBeNew,
} from "./after-crash.ts";
import { CrashHistory, type CrashPoint } from "./crash-history.ts";
import { startMachine } from "./forking-machine.ts";
import { histories } from "./histories.ts";
import { visibleState } from "./visible-state.ts";

export interface CrashWork {
  /** Of the table of histories. */
  history: string;
  settings: CrashCheckSettings;
  /** If given: crashes are those of recovery, of so many of the stores that a crash left. */
  recoveries?: number;
}

workApart(runCrashWork);

export async function runCrashWork(work: CrashWork): Promise<CrashCheckCounts> {
  const { settings, recoveries } = work;
  const run = histories[work.history];
  if (run === undefined) throw new Error(`there is no history of ${work.history}`);
  const history = new CrashHistory(settings.seed);
  await run(history);
  const points =
    recoveries === undefined
      ? history.points
      : await recoveryPoints(history.points, { ...settings, recoveries });
  return await checkCrashPoints(points, settings);
}

/** Crashes stores at points spread over the history, and gives the points of their recoveries. */
async function recoveryPoints(
  points: readonly CrashPoint[],
  settings: CrashCheckSettings & { recoveries: number },
): Promise<CrashPoint[]> {
  const { recoveries, seed } = settings;
  const found: CrashPoint[] = [];
  for (let count = 0; count < recoveries; count++) {
    const at = Math.floor(((count + 0.5) * points.length) / recoveries);
    const point = points[at] as CrashPoint;
    const { images } = imagesOf(point, { ...settings, seed: seed + 1000 * at });
    const { name, image } = images[(7 * count) % images.length] as (typeof images)[number];
    const from = found.length;
    const machine = startMachine({ disk: image, seed }, (change) => {
      const where = `${point.where}, ${name}; recovering, before ${change}`;
      found.push({ moment: machine.moment(), where, possible: point.possible });
    });
    const store = await openCaseStore(machine.host, mayBeNew(point.possible));
    const state = await visibleState(store);
    // Once it is open and was looked at, it must stay so.
    const where = `${point.where}, ${name}; recovered in ${found.length - from} changes`;
    found.push({ moment: machine.moment(), where, possible: [state] });
  }
  return found;
}
