export interface Turn {
  name: string;
  /** Resolves with what was measured. */
  run: () => Promise<number>;
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
    for (const { name, run } of turns) {
      const value = await run();
      if (round > 0) values.get(name)?.push(value);
    }
  }
  return values;
}
