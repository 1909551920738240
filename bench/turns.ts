import { runTool } from "../test/support/tools.ts";

export interface Turn {
  name: string;
  /** Resolves with what was measured. */
  run: () => Promise<number>;
  /** Done before it, and not measured. */
  before?: () => Promise<void>;
}

/**
 * All in turn, round after round (A B C A B C …), so that what the machine does meanwhile hits all of them.
 * The first round warms up and does not count. Values by name, one of each round.
 */
export async function inTurns(
  turns: readonly Turn[],
  rounds: number,
): Promise<Map<string, number[]>> {
  const values = new Map(turns.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round <= rounds; round++) {
    for (const { name, run, before } of turns) {
      await before?.();
      const value = await run();
      if (round > 0) values.get(name)?.push(value);
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
