import { posix } from "node:path";
import { isTest, type Problem, type SourceFile } from "./source.ts";

interface Layer {
  /** Folders of src/, or parts of them, that it may import besides itself. */
  folders: string[];
  /** Packages, and modules of Node that reach the outside world. */
  outside: string[];
}

const everything = ["."];

/** The layers of ARCHITECTURE.md. A folder of src/ that is not here fails the check. */
export const layers: Record<string, Layer> = {
  // Loads a package that computes checksums, which may be missing.
  base: { folders: [], outside: ["node:module"] },
  host: { folders: ["base"], outside: [] },
  // The last two make certificates; the SDK speaks to S3.
  "host/node": {
    folders: ["base", "host"],
    outside: [
      "node:*",
      "pino",
      "@aws-sdk/client-s3",
      "@smithy/node-http-handler",
      "@peculiar/x509",
      "reflect-metadata",
    ],
  },
  block: { folders: ["base", "host"], outside: [] },
  // Records of the catalog, and what vdi notes in them, are JSON, checked when it is read back.
  store: { folders: ["base", "host"], outside: ["zod"] },
  qmp: { folders: ["base", "host"], outside: ["zod"] },
  // Disks as Sheepdog sees them are bytes of inodes and hashes of names: sheepdog's wire files have those.
  vdi: { folders: ["base", "host", "block", "store", "sheepdog/wire"], outside: ["zod"] },
  nbd: { folders: ["base", "host", "block"], outside: [] },
  sheepdog: { folders: ["base", "host", "block", "vdi"], outside: [] },
  control: {
    folders: ["base", "host", "block", "store", "vdi", "sheepdog/client", "qmp"],
    outside: ["zod"],
  },
  // The HTTP library opens its own sockets, and the control socket is a file with an owner and a
  // mode. The simulator does not run this layer.
  http: {
    // Of block it has the kinds of requests that are counted.
    folders: ["base", "host", "block/request-meter", "control"],
    outside: ["zod", "fastify", "@prometheus-io/client", "node:http", "node:net", "node:fs"],
  },
  // The composition root: the one place that puts the real host under everything.
  cli: {
    folders: everything,
    outside: ["commander", "zod", "node:module", "node:readline", "node:stream"],
  },
  "library.ts": { folders: everything, outside: [] },
};

/** Modules of Node that compute, and neither see nor change anything outside the process. */
const pureModules: Record<string, "all" | string[]> = {
  "node:assert/strict": "all",
  "node:async_hooks": "all",
  "node:buffer": "all",
  "node:crypto": ["createHash", "createHmac", "timingSafeEqual"],
  "node:diagnostics_channel": "all",
  "node:path": "all",
  "node:string_decoder": "all",
  "node:url": "all",
  "node:util": "all",
  "node:zlib": "all",
};

/** The layer a file of src/ is in, or undefined when the table does not know it. */
export function layerOf(path: string): string | undefined {
  const inside = path.replace(/^src\//, "");
  return Object.keys(layers)
    .sort((a, b) => b.length - a.length)
    .find((name) => inside === name || inside.startsWith(`${name}/`));
}

export function checkLayers(files: readonly SourceFile[]): Problem[] {
  return files
    .filter(({ path }) => path.startsWith("src/") && path.endsWith(".ts"))
    .flatMap((file) => {
      const name = layerOf(file.path);
      if (name === undefined) {
        return [{ path: file.path, line: 1, message: "its folder is not in the table of layers" }];
      }
      return file.imports.flatMap(({ specifier, names, line }) => {
        const refusal = specifier.startsWith(".")
          ? refuseOwn(file.path, name, posix.join(posix.dirname(file.path), specifier))
          : refuseOutside(file.path, name, specifier, names);
        return refusal === undefined ? [] : [{ path: file.path, line, message: refusal }];
      });
    });
}

/**
 * Files that import each other in a ring, each ring named once. Type imports do not count here:
 * they are gone when modules are loaded, and two files of one layer may well name each other's
 * types. A ring over several layers breaks the rule of layers, where they do count.
 */
export function checkCycles(files: readonly SourceFile[]): Problem[] {
  const graph = new Map(files.map((file) => [file.path, file]));
  const done = new Set<string>();
  const problems: Problem[] = [];

  const visit = (path: string, trail: string[]): void => {
    const start = trail.indexOf(path);
    if (start !== -1) {
      const ring = [...trail.slice(start), path].join(" -> ");
      problems.push({ path, line: 1, message: `imports itself: ${ring}` });
      return;
    }
    const file = graph.get(path);
    if (file === undefined || done.has(path)) return;
    for (const { specifier, typeOnly } of file.imports) {
      if (typeOnly || !specifier.startsWith(".")) continue;
      visit(posix.join(posix.dirname(path), specifier), [...trail, path]);
    }
    done.add(path);
  };

  for (const { path } of files) visit(path, []);
  return problems;
}

function refuseOwn(from: string, layer: string, target: string): string | undefined {
  if (isTest(from)) return undefined;
  if (!target.startsWith("src/")) return `the product imports ${target}, which is not under src/`;
  if (isTest(target)) return `the product imports a test, ${target}`;
  if (/^wire.*\.ts$/.test(posix.basename(from))) {
    const sibling = posix.dirname(target) === posix.dirname(from);
    const allowed = layerOf(target) === "base" || (sibling && /\/wire[^/]*$/.test(target));
    return allowed ? undefined : `a wire file may import base only, not ${target}`;
  }
  const targetLayer = layerOf(target);
  if (targetLayer === layer) return undefined;
  const folders = layers[layer]?.folders ?? [];
  if (folders === everything) return undefined;
  const inside = target.slice("src/".length);
  const allowed = folders.some((folder) =>
    folder === "host" ? targetLayer === "host" : new RegExp(`^${folder}[/.-]`).test(inside),
  );
  return allowed ? undefined : `${layer} may not import ${targetLayer ?? target} (${target})`;
}

function refuseOutside(
  from: string,
  layer: string,
  specifier: string,
  names: readonly string[],
): string | undefined {
  if (isTest(from)) return undefined;
  const pure = Object.hasOwn(pureModules, specifier) ? pureModules[specifier] : undefined;
  if (pure === "all") return undefined;
  if (pure !== undefined && names.length > 0 && names.every((name) => pure.includes(name))) {
    return undefined;
  }
  const allowed = (layers[layer]?.outside ?? []).some((entry) =>
    entry === "node:*"
      ? specifier.startsWith("node:")
      : specifier === entry || specifier.startsWith(`${entry}/`),
  );
  return allowed ? undefined : `${layer} may not import ${specifier}`;
}
