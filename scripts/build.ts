/**
 * npm run build [-- DIR]: src/ to dist/, or to DIR: JavaScript and declarations, and the console's page
 * to web/ in it. Only a package needs the former: Node strips types in a checkout, but not under
 * node_modules.
 */
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");
const outDir = resolve(process.argv[2] ?? join(root, "dist"));
const tsc = join(root, "node_modules/.bin/tsc");

// What was removed from src/ must not be published from an earlier build.
rmSync(outDir, { recursive: true, force: true });
const { status, error } = spawnSync(tsc, ["-p", "tsconfig.build.json", "--outDir", outDir], {
  cwd: root,
  stdio: "inherit",
});
if (error !== undefined) throw error;
const web = buildWeb();
process.exitCode = status || web;

function buildWeb(): number {
  const script = join(root, "scripts/build-web.ts");
  const built = spawnSync(process.execPath, [script, join(outDir, "web")], { stdio: "inherit" });
  if (built.error !== undefined) throw built.error;
  return built.status ?? 1;
}
