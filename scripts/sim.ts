/**
 * npm run sim: simulated worlds, in which a store is used, crashes and comes back, against a model.
 *
 *     npm run sim -- --minutes 5          explores on every core, prints seeds that fail and a table
 *     npm run sim -- --worlds 100         so many worlds
 *     npm run sim -- --from 7             the first seed; chosen by the clock by default
 *     npm run sim -- --seed 7 --verbose   one world, with all that happens in it
 *     npm run sim -- --require-cells      a reachable cell of the table that is zero is a failure
 *     npm run sim -- --json               the summary for programs
 *     npm run sim -- --write-digests      keeps what a few worlds come to: test/sim/digests.test.ts
 *
 * `--guests`, `--actors`, `--depth` and `--requests` make the world of a seed smaller: they are what is
 * printed with a seed that failed. Exits with 1 if a world failed.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { type PlanLimits, runWorld } from "../sim/world/world.ts";
import { writeDigests } from "./sim-digests.ts";
import { exploreWorlds } from "./sim-explore.ts";
import { failedText, summaryText } from "./sim-summary.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    from: { type: "string" },
    minutes: { type: "string" },
    worlds: { type: "string" },
    guests: { type: "string" },
    actors: { type: "string" },
    depth: { type: "string" },
    requests: { type: "string" },
    verbose: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    "require-cells": { type: "boolean", default: false },
    "write-digests": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (values.help) console.log(helpText());
else if (values["write-digests"]) console.log(await writeDigests());
else if (values.seed !== undefined) process.exitCode = await one(numberOf("seed", values.seed));
else process.exitCode = await explore();

async function one(seed: number): Promise<number> {
  const limits: PlanLimits = {};
  for (const key of ["guests", "actors", "depth", "requests"] as const) {
    const value = values[key];
    if (value !== undefined) limits[key] = numberOf(key, value);
  }
  const print = values.verbose ? (line: string) => console.log(line) : undefined;
  const report = await runWorld({ seed, limits, print });
  console.log(values.json ? JSON.stringify(report) : report);
  return report.failure === undefined ? 0 : 1;
}

async function explore(): Promise<number> {
  const from = values.from === undefined ? Date.now() % 2 ** 31 : numberOf("from", values.from);
  const minutes = values.minutes === undefined ? undefined : numberOf("minutes", values.minutes);
  const worlds = values.worlds === undefined ? undefined : numberOf("worlds", values.worlds);
  const limitMs = (minutes ?? (worlds === undefined ? 1 : 24 * 60)) * 60_000;
  const workers = Math.min(availableParallelism(), worlds ?? 64);
  const summary = await exploreWorlds(
    { from, workers, limitMs, worlds },
    { failed: (world) => console.error(failedText(world)) },
  );
  const isJson = values.json;
  const requireCells = values["require-cells"];
  const text = summaryText(summary, requireCells);
  console.log(isJson ? JSON.stringify(summary) : text);
  const missing = requireCells ? summary.missingCells.length : 0;
  return summary.failures.length === 0 && missing === 0 && summary.worlds > 0 ? 0 : 1;
}

function numberOf(name: string, text: string): number {
  const number = Number(text);
  if (Number.isFinite(number) && number >= 0 && text.trim() !== "") return number;
  throw new Error(`--${name} takes a number, not ${JSON.stringify(text)}`);
}

function helpText(): string {
  return `npm run sim -- [OPTIONS]

  --minutes M        explore for so long (1 by default), on every core
  --worlds N         explore so many worlds
  --from SEED        begin with this seed, not one chosen by the clock
  --require-cells    fail if a cell of the table that is known to be reachable is zero
  --seed SEED        run one world
  --verbose          print all that happens in it
  --guests G --actors A --depth D --requests R
                     make that world smaller
  --json             for programs
  --write-digests    keep what a few worlds come to, once a change is meant to make them differ

Exits with 1 if a world failed.`;
}
