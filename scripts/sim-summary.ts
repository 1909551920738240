import type { FailedWorld, SimSummary } from "./sim-explore.ts";

/** What one needs to see a world fail again. */
export function failedText({ seed, failure, limits }: FailedWorld): string {
  const smaller = Object.entries(limits).map(([key, value]) => ` --${key} ${value}`);
  return `seed ${seed} FAILED: ${failure}\n  npm run sim -- --verbose --seed ${seed}${smaller.join("")}`;
}

export function summaryText(summary: SimSummary, showMissing: boolean): string {
  const { worlds, counted, requests, crashes, crashesWithUnsynced, faults, hostCalls } = summary;
  const seconds = summary.durationMs / 1000;
  const operations = Object.values(summary.operations).reduce((sum, count) => sum + count, 0);
  return [
    ...tables(summary),
    "",
    `operations done: ${countsText(summary.operations)}`,
    `${worlds} worlds from seed ${summary.from} on in ${seconds.toFixed(0)} s on ` +
      `${summary.workers} cores: ${(worlds / seconds).toFixed(1)} a second, ` +
      `${(summary.worldMs / Math.max(1, worlds)).toFixed(0)} ms of processor time each; ${counted} count, ` +
      `${worlds - counted} did too little`,
    `${requests} requests, ${operations} structural operations, ${crashes} crashes ` +
      `(${crashesWithUnsynced} with unsynced data), ${faults} faults, ${hostCalls} host calls`,
    ...(showMissing ? missingText(summary) : []),
    `${summary.failures.length} worlds failed${seedsText(summary)}`,
  ].join("\n");
}

function missingText({ missingCells }: SimSummary): string[] {
  if (missingCells.length === 0) return ["every cell known to be reachable was reached"];
  return [
    `reachable and not reached: ${missingCells.length}`,
    ...missingCells.map((c) => `  ${c}`),
  ];
}

function seedsText({ failures }: SimSummary): string {
  return failures.length === 0 ? "" : `: seeds ${failures.map(({ seed }) => seed).join(", ")}`;
}

function countsText(counts: Record<string, number>): string {
  const sorted = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  return sorted.map(([key, count]) => `${key} ${count}`).join(", ");
}

/** One table for each fault: operations down, crash sites across. */
function tables({ cells }: SimSummary): string[] {
  const parts = Object.entries(cells).map(([cell, count]) => {
    const [operation = "", site = "", fault = ""] = cell.split(" | ");
    return { operation, site, fault, count };
  });
  const unique = (key: "operation" | "site" | "fault"): string[] =>
    [...new Set(parts.map((part) => part[key]))].sort();
  const sites = unique("site");
  const lines = ["Crashes, by what was under way, where they fell, and the last fault before"];
  for (const fault of unique("fault")) {
    lines.push("", `fault: ${fault}`, row("", sites.map(shortOf)));
    for (const operation of unique("operation")) {
      const counts = sites.map((site) => {
        const found = parts.find(
          (part) => part.operation === operation && part.site === site && part.fault === fault,
        );
        return `${found?.count ?? "."}`;
      });
      if (counts.some((count) => count !== ".")) lines.push(row(operation, counts));
    }
  }
  return lines;
}

function row(title: string, columns: string[]): string {
  return `${title.padEnd(16)}${columns.map((column) => column.padStart(7)).join("")}`;
}

/** Of `checkpoints write`: `ch.wri`. */
function shortOf(site: string): string {
  const [area = "", step] = site.split(" ");
  return step === undefined ? area.slice(0, 6) : `${area.slice(0, 2)}.${step.slice(0, 3)}`;
}
