import { after, test } from "node:test";
import { Apart } from "../support/apart.ts";
import { isSoak } from "../support/soak.ts";
import { type CrashCheckCounts, noCounts } from "./after-crash.ts";
import type { CrashWork } from "./crash-work.ts";
import { histories } from "./histories.ts";

const seed = Number(process.env.KELPIE_CRASH_SEED ?? 1);
const settings = isSoak
  ? { imagesMax: 4096, singlesMax: 64, samples: 32, goOnEvery: 1, seed }
  : { imagesMax: 64, singlesMax: 3, samples: 2, goOnEvery: 10, seed };
const recoveries = isSoak ? 40 : 3;

const apart = new Apart<CrashWork, CrashCheckCounts>(new URL("crash-work.ts", import.meta.url));
const total = { ...noCounts };
after(() => console.log(`» crash points, seed ${seed}: ${textOf(total)}`));

for (const history of Object.keys(histories)) {
  test(`a crash anywhere in ${history} leaves what was before or after`, async () => {
    add(history, await apart.run({ history, settings }));
  });
}

/** Those that differ from others only before they crash have no recovery of their own. */
const recovered = Object.keys(histories).filter((name) => !/not flushed|\.check/.test(name));

for (const history of recovered) {
  test(`a crash in the recovery from ${history} changes nothing`, async () => {
    add(`recovery from ${history}`, await apart.run({ history, settings, recoveries }));
  });
}

function add(name: string, counts: CrashCheckCounts): void {
  for (const key of Object.keys(total) as (keyof CrashCheckCounts)[]) total[key] += counts[key];
  console.log(`${name}: ${textOf(counts)}`);
}

function textOf({ points, exhaustivePoints, images, opened, goneOn }: CrashCheckCounts): string {
  return (
    `${points} points, ${exhaustivePoints} of them with every combination of losses; ` +
    `${images} images, ${opened} that differed were opened, ${goneOn} of them used further`
  );
}
