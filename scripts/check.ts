/**
 * npm run check: the one command before a push. Format and lint, types, then the tests that need no
 * tools: units, layers, house rules, missing syncs, and some simulated worlds. All of it runs even when
 * something early fails. About a minute: `npm test` has the rest.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const steps: Record<string, string[]> = {
  "format and lint": ["biome", "check", "--error-on-warnings", "--diagnostic-level=warn", "."],
  types: ["tsc", "-p", "tsconfig.json"],
  "types of the console": ["tsc", "-p", "web/tsconfig.json"],
  "unit tests, layers, house rules, missing syncs": [
    "node",
    "scripts/test.ts",
    "--limit-s=120",
    "src/",
    "test/tidy/layers",
    "test/tidy/lock-file",
    "test/tidy/rules",
    "test/crash/missing-sync",
  ],
  "a short simulation": ["node", "scripts/sim.ts", "--worlds", "12"],
};

const root = join(import.meta.dirname, "..");
const env = {
  // Many processes load much the same files: what one has compiled the others need not.
  NODE_COMPILE_CACHE: join(root, "node_modules/.cache/check"),
  ...process.env,
  PATH: `${join(root, "node_modules/.bin")}:${process.env.PATH}`,
};
const failed: string[] = [];
for (const [name, [command = "", ...args]] of Object.entries(steps)) {
  console.log(`\n== ${name}: ${command} ${args.join(" ")}`);
  const startMs = performance.now();
  const { status } = spawnSync(command, args, { cwd: root, env, stdio: "inherit" });
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  if (status !== 0) failed.push(name);
  console.log(`== ${status === 0 ? "passed" : "FAILED"} in ${seconds} s`);
}
console.log(failed.length === 0 ? "\ncheck passed" : `\ncheck FAILED: ${failed.join("; ")}`);
process.exitCode = failed.length === 0 ? 0 : 1;
