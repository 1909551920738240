import type { Result } from "./results.ts";

/**
 * What the hunts found, in words and as a table in Markdown: the slowest for simulation last. `listed` is
 * how many bugs there are, of which some may not have been hunted yet.
 */
export function tableText(results: readonly Result[], listed: number): string {
  const bugs = results.filter(({ name }) => name !== "no bug at all");
  const found = bugs.filter(({ foundBy }) => foundBy !== undefined);
  const simulated = bugs.filter(({ simulation }) => simulation?.failure !== undefined);
  const slowest = simulated.toSorted((a, b) => secondsOf(b) - secondsOf(a))[0];
  const commits = [...new Set(bugs.map(({ commit }) => commit))].join(", ");
  const lines = [
    `Of ${listed} planted bugs ${bugs.length} were hunted, and ${found.length} found, at ${commits}.`,
    "Simulation alone, with up to a minute of processor time for each, found " +
      `${simulated.length} of ${bugs.filter(({ simulation }) => simulation !== undefined).length}` +
      (slowest === undefined
        ? "."
        : `, the slowest after ${worlds(slowest)} and ${secondsOf(slowest).toFixed(1)} s.`),
    "",
    "| bug | first found by | s | simulation alone |",
    "| --- | --- | ---: | --- |",
    ...bugs.toSorted((a, b) => orderOf(a) - orderOf(b)).map(rowOf),
  ];
  return `${lines.join("\n")}\n`;
}

function rowOf(result: Result): string {
  const { name, foundBy, seconds, filesRun, simulation } = result;
  const nothing = filesRun === 0 ? "tests not run" : `**nothing**, ${filesRun} files`;
  const by = foundBy === undefined ? nothing : whereOf(foundBy);
  const alone =
    simulation === undefined
      ? "not run"
      : simulation.failure === undefined
        ? `not in ${worlds(result)}, ${simulation.seconds.toFixed(0)} s`
        : `${worlds(result)}, ${simulation.seconds.toFixed(1)} s`;
  return `| ${name} | ${by} | ${seconds.toFixed(1)} | ${alone} |`;
}

function whereOf({ check, path }: { check: string; path: string }): string {
  if (check === "simulation") return "simulation";
  return `\`${path.replace(/^(src|test)\//, "").replace(/\.test\.ts$/, "")}\``;
}

function worlds({ simulation }: Result): string {
  const count = simulation?.worlds ?? 0;
  return count === 1 ? "1 world" : `${count} worlds`;
}

function secondsOf({ simulation }: Result): number {
  return simulation?.seconds ?? 0;
}

/** What simulation finds by how long it takes, then what it does not find. */
function orderOf(result: Result): number {
  return result.simulation?.failure === undefined ? 1e6 : secondsOf(result);
}
