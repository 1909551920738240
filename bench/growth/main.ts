/** How cost grows, with the size of a disk and with the number of its snapshots: see `help`. */
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { withTables } from "./document.ts";
import { measureGrowth } from "./growth.ts";
import { writePlots } from "./plots.ts";
import { GrowthResults } from "./results.ts";
import { formatTables } from "./tables.ts";

const help = `node bench/growth/main.ts [options]

What opening, reading, snapshots, rollback, clones, lists, comparisons and deleting cost, and how
much memory they take, by the size of a disk and by the number of its snapshots. Each level's results
are kept as soon as they are there; levels that have results are not measured again.

  --sizes LIST      of disks, in GiB (1,10,100,1024)
  --snapshots LIST  of a disk of 10 GiB (1,100,1000,10000)
  --quick           1,10 and 1,100, and fewer samples of each
  --again           also levels that have results
  --minutes N       that one task at one level may take (30)
  --results FILE    where results are kept (bench/growth/recorded.json)
  --docs            measures nothing: the tables into docs/performance.md, the plots into docs/img
  --scratch DIR     for stores, some 10 GiB (${tmpdir()})`;

const root = resolve(import.meta.dirname, "../..");
const lists = {
  quick: { sizes: [1, 10], snapshots: [1, 100], samples: 5 },
  full: { sizes: [1, 10, 100, 1024], snapshots: [1, 100, 1000, 10_000], samples: 9 },
};

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      again: { type: "boolean", default: false },
      docs: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
      sizes: { type: "string" },
      snapshots: { type: "string" },
      minutes: { type: "string", default: "30" },
      results: { type: "string", default: join(root, "bench/growth/recorded.json") },
      scratch: { type: "string", default: tmpdir() },
    },
  });
  if (values.help) return console.log(help);
  const results = await GrowthResults.open(resolve(values.results));
  if (values.docs) return await writeDocument(results);
  const { sizes, snapshots, samples } = lists[values.quick ? "quick" : "full"];
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => stop.abort(new Error(signal)));
  }
  const failed = await measureGrowth({
    sizes: numbers(values.sizes) ?? sizes,
    snapshots: numbers(values.snapshots) ?? snapshots,
    samples,
    taskMs: Number(values.minutes) * 60_000,
    signal: stop.signal,
    scratch: values.scratch,
    isDone: (level) => !values.again && results.has(level),
    onRow: (row) => results.add(row),
    progress: (line) => console.error(line),
  });
  console.log(formatTables(results.report));
  for (const line of failed) console.error(`failed: ${line}`);
  if (failed.length > 0) process.exitCode = 1;
}

async function writeDocument({ report }: GrowthResults): Promise<void> {
  const file = join(root, "docs/performance.md");
  await writeFile(file, withTables(await readFile(file, "utf8"), formatTables(report)));
  await writePlots(join(root, "docs/img"), report);
}

function numbers(list: string | undefined): number[] | undefined {
  if (list === undefined) return undefined;
  return list.split(",").filter(Boolean).map(Number);
}

try {
  await main();
} catch (error) {
  console.error(`growth: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
