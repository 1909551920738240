import { type PlanLimits, runWorld } from "../sim/world/world.ts";

/** Runs that looking for a smaller world may take. */
const runsMax = 24;

/** Limits under which the world of a seed still fails, as small as a few tries find. */
export async function shrinkWorld(seed: number): Promise<PlanLimits> {
  let limits: PlanLimits = {};
  let runs = 0;
  for (const key of ["guests", "actors", "depth", "requests"] as const) {
    for (const value of key === "requests" ? [5, 10, 20, 40] : [1, 2, 3]) {
      runs++;
      if (runs > runsMax) return limits;
      const smaller = { ...limits, [key]: value };
      const { failure } = await runWorld({ seed, limits: smaller });
      if (failure === undefined) continue;
      limits = smaller;
      break;
    }
  }
  return limits;
}
