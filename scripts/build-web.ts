/**
 * npm run build:web [-- DIR]: the console's page, web/ to dist/web, or to DIR.
 *
 *     --if-older    only if something in web/ is newer than what was built; a checkout without the tools
 *                   for it goes on without the page
 */
import { globSync, statSync } from "node:fs";
import { join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");
const args = process.argv.slice(2);
const isCasual = args.includes("--if-older");
const outDir = resolve(args.find((arg) => !arg.startsWith("--")) ?? join(root, "dist/web"));

if (!isCasual || isOlder()) await build();

async function build(): Promise<void> {
  const vite = await import("vite").catch((error: unknown) => {
    if (!isCasual) throw error;
    console.error(
      "The console's page is not built: its tools are not installed (npm ci has them).",
    );
  });
  await vite?.build({
    configFile: false,
    root: join(root, "web"),
    logLevel: "warn",
    oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
    build: {
      outDir,
      emptyOutDir: true,
      target: "es2022",
      // The policy of the page forbids what is inlined.
      assetsInlineLimit: 0,
      modulePreload: false,
    },
  });
}

/** What the page is made of besides web/ itself is a file of the control layer. */
function isOlder(): boolean {
  const builtMs = statSync(join(outDir, "index.html"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = ["web/**/*.*", "src/control/tree.ts", "package-lock.json"];
  return sources
    .flatMap((pattern) => globSync(pattern, { cwd: root }))
    .some((path) => statSync(join(root, path)).mtimeMs > builtMs);
}
