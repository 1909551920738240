import { test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import { messageOf } from "../../src/base/errors.ts";
import { isSoak } from "../support/soak.ts";

export interface FuzzSettings {
  /** In CI, always with the same seeds. */
  runs: number;
  /** `npm run soak` makes so many times as many, with seeds that nobody has seen. */
  soakFactor?: number;
}

/** How often something happened, for the line that a passing fuzzer prints. */
export type Tally = (what: string, count?: number) => void;

const replayed = process.env.KELPIE_FUZZ_SEED;

/**
 * A test that runs its body once for each seed. A failure names the seed:
 * `KELPIE_FUZZ_SEED=n npm test -- test/fuzz/FILE` runs that one alone.
 */
export function fuzz(
  name: string,
  settings: FuzzSettings,
  body: (random: SeededRandom, tally: Tally) => Promise<void> | void,
): void {
  test(name, async () => {
    const { runs, soakFactor = 50 } = settings;
    const count = replayed !== undefined ? 1 : isSoak ? runs * soakFactor : runs;
    const first = Number(replayed ?? (isSoak ? Math.floor(Math.random() * 2 ** 31) : 1));
    const tallies = new Map<string, number>();
    let seed = first;
    // What is thrown where nobody can catch it ends the test, but would not say with which seed.
    const monitor = () => console.log(`an uncaught exception with seed ${seed} of: ${name}`);
    process.on("uncaughtExceptionMonitor", monitor);
    try {
      for (; seed < first + count; seed++) {
        await body(new SeededRandom(seed), (what, times = 1) => {
          tallies.set(what, (tallies.get(what) ?? 0) + times);
        });
      }
    } catch (error) {
      throw new Error(`KELPIE_FUZZ_SEED=${seed}: ${messageOf(error)}`, { cause: error });
    } finally {
      process.off("uncaughtExceptionMonitor", monitor);
    }
    const seen = [...tallies].map(([what, times]) => `, ${times} ${what}`).join("");
    console.log(`» ${name}: ${count} runs from seed ${first}${seen}`);
  });
}
