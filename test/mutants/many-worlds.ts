/**
 * A check for planted bugs: worlds of the simulation, one after the other, up to the first that fails or
 * until so many seconds of processor time are over. Prints a line of JSON as each begins, and one for the
 * failure.
 */
import { runWorld } from "../../sim/world/world.ts";
import type { WorldLine } from "./simulate.ts";

const limitMs = 1000 * Number(process.argv[2] ?? 60);

const say = (line: WorldLine) => process.stdout.write(`${JSON.stringify(line)}\n`);
const processorMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

const startMs = processorMs();
let elapsedMs = 0;
let failure: string | undefined;
for (let seed = 1; failure === undefined && elapsedMs < limitMs; seed++) {
  say({ seed, elapsedMs });
  failure = (await runWorld({ seed })).failure;
  elapsedMs = processorMs() - startMs;
  if (failure !== undefined) say({ seed, elapsedMs, failure: failure.split("\n", 1)[0] ?? "" });
}
