/**
 * npm run package [-- --destination DIR]: builds, and makes the tarball to publish,
 * kelpie-<version>.tgz.
 *
 * What is published is put together in a scratch directory, with a manifest of its own, and packed
 * there. The checkout's package.json is never rewritten: nothing has to be put back after a crash.
 */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

/** What is in the package besides its manifest and what is built. */
const contents = ["bin", "LICENSE", "README.md", "CHANGELOG.md", "docs/systemd", "docs/grafana"];
const nodeRequired = ">=24";

const root = join(import.meta.dirname, "..");
const { values } = parseArgs({ options: { destination: { type: "string", default: "." } } });
const destination = resolve(values.destination);

const stage = mkdtempSync(join(tmpdir(), "kelpie-pack-"));
try {
  run(process.execPath, [join(root, "scripts/build.ts"), join(stage, "dist")], root);
  for (const name of contents.filter((name) => existsSync(join(root, name)))) {
    cpSync(join(root, name), join(stage, name), { recursive: true });
  }
  run(process.execPath, [join(root, "bin/kelpie"), "man", "--all", join(stage, "man")], root);
  const man = readdirSync(join(stage, "man")).map((name) => `./man/${name}`);
  const manifest = packedManifest(JSON.parse(readFileSync(join(root, "package.json"), "utf8")));
  const written = JSON.stringify({ ...manifest, man }, null, 2);
  writeFileSync(join(stage, "package.json"), `${written}\n`);
  run("npm", ["pack", "--ignore-scripts", `--pack-destination=${destination}`], stage);
} finally {
  rmSync(stage, { recursive: true, force: true });
}

/**
 * Runs dist/ on a Node that is there already: the Node that the checkout brings, the tools and the
 * scripts of development stay out.
 */
function packedManifest(checkout: Record<string, unknown>): Record<string, unknown> {
  const { private: _, scripts, devDependencies, allowScripts, ...manifest } = checkout;
  const optional = Object.entries(manifest.optionalDependencies ?? {});
  return {
    ...manifest,
    optionalDependencies: Object.fromEntries(
      optional.filter(([name]) => !name.startsWith("node-linux-")),
    ),
    engines: { node: nodeRequired },
    exports: {
      ".": { types: "./dist/library.d.ts", default: "./dist/library.js" },
      "./package.json": "./package.json",
    },
  };
}

function run(command: string, args: string[], cwd: string): void {
  const { status, error } = spawnSync(command, args, { cwd, stdio: "inherit" });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: exit code ${status}`);
}
