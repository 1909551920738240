/**
 * npm run soak: the long forms of tests that have a short one, for about half an hour. Arguments are
 * those of npm test: `npm run soak -- model` runs one of them.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const filters = process.argv.slice(2);
const longOnes = [
  "test/crash",
  "test/fail-at-n",
  "test/fuzz",
  "test/store",
  "test/interop/fio-snapshots",
];
const { status } = spawnSync(
  process.execPath,
  [
    join(import.meta.dirname, "test.ts"),
    "--limit-s=3600",
    ...(filters.length > 0 ? filters : longOnes),
  ],
  { stdio: "inherit", env: { ...process.env, KELPIE_SOAK: "1" } },
);
process.exitCode = status ?? 1;
