import type { Command } from "commander";
import { formatSize } from "../base/sizes.ts";
import type { CallOutput, RangeEntry } from "../control/calls.ts";
import type { Cli, Printer } from "./command.ts";
import type { Output } from "./context.ts";
import { checkSnapshot, findPoint } from "./snapshot-name.ts";

export function addDiff(parent: Command, cli: Cli): void {
  parent
    .command("diff")
    .summary("list what changed between two points of a disk")
    .description("Lists exactly the ranges that differ between two points of a disk's history.")
    .argument("<name>", "the disk")
    .requiredOption("-F, --from <tag>", "tag or id of the snapshot to start from")
    .option(
      "-s, --snapshot <tag>",
      "tag or id of the snapshot to end at; else the disk as it is now",
    )
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi diff disk1 -F monday              what was written since
  kelpie vdi diff disk1 -F monday -s tuesday --json`,
    )
    .action((name: string, options: { from: string; snapshot?: string }, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const from = checkSnapshot(options.from);
        const to = options.snapshot === undefined ? {} : { to: checkSnapshot(options.snapshot) };
        const pages = pagesOf((offset) => control.call("vdi.diff", { name, from, ...to, offset }));
        const changed = await printRanges(pages, printer, cli.context.stdout);
        if (!printer.json) await cli.context.stderr.write(`${formatSize(changed)} changed\n`);
        return 0;
      }),
    );
}

export function addMap(parent: Command, cli: Cli): void {
  parent
    .command("map")
    .summary("list where a disk has data")
    .description(
      `Lists where a disk has data and where it has holes. Depth says where data was written: 1 in
this point, 2 in the one it stands on, and so on.`,
    )
    .argument("<name>", "the disk; NAME@TAG for a snapshot of it")
    .option("-s, --snapshot <tag>", "tag or id of a snapshot")
    .action((name: string, options: { snapshot?: string }, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const point = await findPoint(control, name, options.snapshot);
        const pages = pagesOf((offset) => control.call("vdi.map", { ...point, offset }));
        await printRanges(pages, printer, cli.context.stdout);
        return 0;
      }),
    );
}

type RangePage = CallOutput<"vdi.map">;

async function* pagesOf(ask: (offset: number) => Promise<RangePage>): AsyncGenerator<RangeEntry[]> {
  let offset: number | null = 0;
  while (offset !== null) {
    const page: RangePage = await ask(offset);
    yield page.ranges;
    offset = page.next;
  }
}

/** Page by page, because a large disk has millions of ranges; a range cut by a page is one again. */
async function printRanges(
  pages: AsyncIterable<RangeEntry[]>,
  printer: Printer,
  out: Output,
): Promise<number> {
  let held: RangeEntry | undefined;
  let total = 0;
  let count = 0;
  const show = (range: RangeEntry): string => {
    total += range.kind === "changed" ? range.length : 0;
    const lead = count++ === 0 ? (printer.json ? "" : header(range)) : printer.json ? ",\n" : "";
    return lead + (printer.json ? `  ${JSON.stringify(range)}` : row(range));
  };
  let begun = false;
  for await (const ranges of pages) {
    // Not before there is an answer: it may be an error.
    let text = printer.json && !begun ? "[\n" : "";
    begun = true;
    for (const range of ranges) {
      if (held !== undefined && continues(held, range)) {
        held = { ...held, length: held.length + range.length };
        continue;
      }
      if (held !== undefined) text += show(held);
      held = range;
    }
    await out.write(text);
  }
  if (held !== undefined) await out.write(show(held));
  if (printer.json) await out.write(count > 0 ? "\n]\n" : "]\n");
  return total;
}

function continues(a: RangeEntry, b: RangeEntry): boolean {
  return a.offset + a.length === b.offset && a.kind === b.kind && a.depth === b.depth;
}

/** Wide enough for 16 TiB in bytes. */
const numberWidth = 14;

function header(first: RangeEntry): string {
  const depth = first.depth === undefined ? "" : "  Depth";
  const title = `${"Offset".padStart(numberWidth)}  ${"Length".padStart(numberWidth)}`;
  return `${title}  ${depth === "" ? "Kind" : `Kind   ${depth}`}\n`;
}

function row({ offset, length, kind, depth }: RangeEntry): string {
  const range = `${String(offset).padStart(numberWidth)}  ${String(length).padStart(numberWidth)}`;
  return depth === undefined
    ? `${range}  ${kind}\n`
    : `${range}  ${kind.padEnd(7)}  ${String(depth).padStart(5)}\n`;
}
