/**
 * A process that runs simulated worlds, one after the other: every STEP-th seed from FROM on. Prints one
 * line of JSON for each. Started by scripts/sim.ts, which ends it.
 */
import { type PlanLimits, runWorld } from "../sim/world/world.ts";
import { shrinkWorld } from "./sim-shrink.ts";

const [from = 0, step = 1, count = Number.POSITIVE_INFINITY] = process.argv.slice(2).map(Number);
for (let run = 0; run < count; run++) {
  const seed = from + run * step;
  const before = process.cpuUsage();
  const report = await runWorld({ seed });
  const { user, system } = process.cpuUsage(before);
  const durationMs = (user + system) / 1000;
  let limits: PlanLimits | undefined;
  if (report.failure !== undefined) limits = await shrinkWorld(seed);
  process.stdout.write(`${JSON.stringify({ report, durationMs, limits })}\n`);
}
