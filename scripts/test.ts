/**
 * npm test: every *.test.ts under src/, sim/ and test/. Whole-system tests have a process for each file,
 * those of the source, which are short, one for several files of a folder.
 *
 *     npm test                                  everything
 *     npm test -- src/store nbd                 files whose path contains one of these
 *     npm test -- --test-name-pattern=rollback  options with "--" go on to Node
 *     npm test -- --limit-s=600                 time one process may take, in seconds
 */
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { runTestGroup, type TestFileResult } from "./test-file.ts";
import { describeFile, summarize } from "./test-summary.ts";

/** Many tests start servers and wait for time-outs: more at once would disturb each other. */
const processesMax = 2;
/** More would leave one core without work at the end. */
const filesInGroupMax = 6;
const limitDefaultMs = 300_000;

const root = join(import.meta.dirname, "..");
process.chdir(root);
process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const limit = args.find((arg) => arg.startsWith("--limit-s="));
  const limitMs = limit === undefined ? limitDefaultMs : 1000 * Number(limit.split("=")[1]);
  const nodeOptions = args.filter((arg) => arg.startsWith("--") && arg !== limit);
  const filters = args
    .filter((arg) => !arg.startsWith("--"))
    .map((arg) => arg.replace(/^\.\//, ""));
  const files = findTestFiles(filters);
  if (files.length === 0) {
    console.log(`no test file's path contains ${filters.join(" or ")}`);
    return 1;
  }

  const startMs = performance.now();
  const signal = stopSignal();
  const results: TestFileResult[] = [];
  const queue = groupsOf(files);
  const worker = async () => {
    for (let paths = queue.shift(); paths !== undefined; paths = queue.shift()) {
      const result = await runTestGroup(paths, { limitMs, nodeOptions, signal });
      if (signal.aborted) return;
      results.push(result);
      console.log(describeFile(result));
    }
  };
  const workers = Math.min(processesMax, availableParallelism());
  await Promise.all(Array.from({ length: workers }, worker));
  if (signal.aborted) return 130;
  const { text, exitCode } = summarize(results, performance.now() - startMs);
  console.log(text);
  return exitCode;
}

/** Whole-system tests first: they are the longest, and short ones fill the gaps at the end. */
function findTestFiles(filters: readonly string[]): string[] {
  const files = ["test", "sim", "src"].flatMap((folder) =>
    globSync(`${folder}/**/*.test.ts`).sort(),
  );
  if (filters.length === 0) return files;
  return files.filter((path) => filters.some((filter) => path.includes(filter)));
}

function groupsOf(files: readonly string[]): string[][] {
  const groups: string[][] = [];
  for (const path of files) {
    const last = groups.at(-1);
    const fits =
      path.startsWith("src/") &&
      last?.[0] !== undefined &&
      dirname(last[0]) === dirname(path) &&
      last.length < filesInGroupMax;
    if (fits) last.push(path);
    else groups.push([path]);
  }
  return groups;
}

/** The files run in process groups of their own, where Ctrl-C does not reach them. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, () => controller.abort());
  return controller.signal;
}
