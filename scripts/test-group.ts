/** Runs the test files that are named in this one process: most of the time of a short one is loading. */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

for (const path of process.argv.slice(2)) await import(pathToFileURL(resolve(path)).href);
