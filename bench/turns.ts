import { runTool } from "../test/support/tools.ts";
import { within } from "./time-limit.ts";

export interface Turn {
  name: string;
  /** Resolves with what was measured. */
  run: () => Promise<number>;
  /** Done before it, and not measured. */
  before?: () => Promise<void>;
}

/** Of one turn or what comes before it. The longest overwrites a disk of 1 GiB in 4 KiB requests. */
const stepMs = 600_000;

/**
 * All in turn, round after round (A B C A B C …), so that what the machine does meanwhile hits all of them.
 * Values by name, one of each round. With `warmUp` there is a round before the first that does not count.
 */
export async function inTurns(
  turns: readonly Turn[],
  how: { rounds: number; warmUp: boolean },
): Promise<Map<string, number[]>> {
  const values = new Map(turns.map(({ name }) => [name, [] as number[]]));
  for (let round = how.warmUp ? -1 : 0; round < how.rounds; round++) {
    for (const { name, run, before } of turns) {
      const step = (what: string) => ({ what: `${what} "${name}", round ${round}`, ms: stepMs });
      if (before !== undefined) await within(step("before the turn"), before());
      const value = await within(step("the turn"), run());
      if (round >= 0) values.get(name)?.push(value);
    }
  }
  return values;
}

/**
 * Has the system write down what is in the page cache of a directory's file system, so that nobody's turn
 * pays for what another one's turn has written.
 */
export async function writeBack(directory: string): Promise<void> {
  await runTool("sync", ["-f", directory]);
}
