/**
 * npm run soak: the long forms of tests that have a short one, then simulated worlds and every planted
 * bug, for about an hour. Arguments are those of npm test: `npm run soak -- model` runs one of them, and
 * no worlds and no planted bugs.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const filters = process.argv.slice(2);
const simulationMinutes = 10;
const longOnes = [
  "test/crash",
  "test/fail-at-n",
  "test/fuzz",
  "test/store",
  "test/interop/fio-snapshots",
  "test/vm/random",
  "test/vm/savevm",
];
const tests = [
  join(import.meta.dirname, "test.ts"),
  "--limit-s=3600",
  ...(filters.length > 0 ? filters : longOnes),
];
const { status } = spawnSync(process.execPath, tests, {
  stdio: "inherit",
  env: { ...process.env, KELPIE_SOAK: "1" },
});
process.exitCode = status ?? 1;
if (filters.length === 0) {
  const sim = join(import.meta.dirname, "sim.ts");
  const minutes = `${simulationMinutes}`;
  const worlds = spawnSync(process.execPath, [sim, "--minutes", minutes], { stdio: "inherit" });
  if (worlds.status !== 0) process.exitCode = 1;
}
if (filters.length === 0) {
  const mutants = join(import.meta.dirname, "../test/mutants/main.ts");
  const planted = spawnSync(process.execPath, [mutants], { stdio: "inherit" });
  process.exitCode ||= planted.status ?? 1;
}
