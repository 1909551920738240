import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runWorld } from "../sim/world/world.ts";

/** Digests that worlds of this checkout have, on any machine: by seed, 16 hex digits each. */
export type Digests = Record<string, string>;

const path = join(import.meta.dirname, "../sim/digests.json");

/** How one says that worlds go another way from now on. */
export const renewDigests = "npm run sim -- --write-digests";

/** Worlds that stop, are resized, meet faults, and whose guests use all three ways to a disk. */
const seeds = [5, 12, 23, 42];

export function keptDigests(): Digests {
  return JSON.parse(readFileSync(path, "utf8")) as Digests;
}

/** Runs the worlds and keeps their digests. Throws, and keeps nothing, if one of them fails. */
export async function writeDigests(): Promise<Digests> {
  const digests: Digests = {};
  for (const seed of seeds) {
    const { digest, failure } = await runWorld({ seed });
    if (failure !== undefined) throw new Error(`the world of seed ${seed} fails: ${failure}`);
    digests[seed] = digest;
  }
  writeFileSync(path, `${JSON.stringify(digests, undefined, 2)}\n`);
  return digests;
}
