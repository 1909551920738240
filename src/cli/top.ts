import type { Command } from "commander";
import { KelpieError } from "../base/errors.ts";
import { formatSize } from "../base/sizes.ts";
import type { Figures, Statistics } from "../control/server-shapes.ts";
import type { Cli } from "./command.ts";
import { formatTable, printable } from "./text.ts";

/** The server's figures change each five seconds; whatever is new shall not be long in coming. */
const pauseMs = 1000;

const columns = [
  "Export",
  "Reads/s",
  "Writes/s",
  "Others/s",
  "Read",
  "Written",
  "Half within",
  "99 % within",
];

const clearScreen = "\x1b[H\x1b[J";

export function addTop(program: Command, cli: Cli): void {
  program
    .command("top")
    .summary("show what the server does, as it does it")
    .description(
      `Shows what the running server does: requests, bytes, and how long answers take, in all and by disk,
the busiest first. On a terminal until Ctrl-C; else once.`,
    )
    .option("--once", "once, also on a terminal")
    .action((options: { once?: boolean }, command: Command) =>
      cli.onStore(command, async ({ control, server }, printer) => {
        if (server === undefined) {
          throw new KelpieError("unsupported", "no server has the store open", {
            remedy: "kelpie serve is one",
          });
        }
        const { stdout, host, signal } = cli.context;
        const ask = () => control.call("server.statistics", {});
        if (printer.json || options.once === true || !stdout.isTerminal) {
          const statistics = await ask();
          await printer.print(statistics, () => describe(statistics));
          return 0;
        }
        while (!signal.aborted) {
          await stdout.write(`${clearScreen}${describe(await ask())}\nCtrl-C ends it.\n`);
          await Promise.race([host.timers.sleep(pauseMs), aborted(signal)]);
        }
        return 0;
      }),
    );
}

function describe({ total, exports, connections, requestsInFlight, store }: Statistics): string {
  const busiest = exports.toSorted((a, b) => requestsOf(b) - requestsOf(a));
  const rows = [row("all", total), ...busiest.map((figures) => row(figures.name, figures))];
  const lines = [`${connections} connections, ${requestsInFlight} requests in flight`];
  if (store !== undefined) {
    const { liveBytes, usedBytes, freeBytes } = store;
    const space = `${formatSize(liveBytes)} live, ${formatSize(usedBytes)} used`;
    lines.push(`${space}, ${formatSize(freeBytes)} free`);
  }
  return `${lines.join("\n")}\n\n${formatTable(columns, rows, columns.slice(1))}`;
}

function requestsOf({ readOps, writeOps, otherOps }: Figures): number {
  return readOps + writeOps + otherOps;
}

function row(name: string, figures: Figures): string[] {
  const { readOps, writeOps, otherOps, readBytes, writeBytes, p50Ms, p99Ms } = figures;
  const rates = [readOps, writeOps, otherOps].map((rate) => rate.toFixed(rate < 10 ? 1 : 0));
  const bytes = [readBytes, writeBytes].map((rate) => `${formatSize(rate)}/s`);
  const times = [p50Ms, p99Ms].map((ms) => (ms === 0 ? "-" : `${ms.toFixed(ms < 10 ? 2 : 0)} ms`));
  return [printable(name || "others"), ...rates, ...bytes, ...times];
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true }),
  );
}
