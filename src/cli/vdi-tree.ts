import type { Command } from "commander";
import type { VdiEntry } from "../control/calls.ts";
import { familyEntries, type TreeNode, treesOf } from "../control/tree.ts";
import type { Cli } from "./command.ts";
import { drawTree } from "./tree-drawing.ts";
import { vdiTable } from "./vdi-list.ts";

export function addTree(parent: Command, cli: Cli): void {
  parent
    .command("tree")
    .summary("draw the history of disks")
    .description(
      `Draws the history of disks: snapshots with arrows to what they stand on, and where each working
VDI is now. Below each drawing is what its points take, alone and shared.`,
    )
    .argument("[name]", "only the family of this disk")
    .addHelpText(
      "after",
      `
Example, after two snapshots and a rollback to the first:

    snap1 <-- snap2
      ^
      |
    disk1 (you are here)`,
    )
    .action((name: string | undefined, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const all = await control.call("vdi.list", {});
        const entries = name === undefined ? all : familyEntries(all, name);
        // Says that there is no such disk in the words that every command has for it.
        if (name !== undefined && entries.length === 0) await control.call("vdi.info", { name });
        const columns = cli.context.stdout.isTerminal ? cli.context.stdout.columns : plainColumns;
        const roots = treesOf(entries);
        if (printer.json) await cli.context.stdout.write(toJson(roots));
        else await cli.context.stdout.write(roots.map((r) => describe(r, columns)).join("\n"));
        return 0;
      }),
    );
}

/**
 * Nested, a point a line. Written without recursion: JSON.stringify gives up at some
 * thousand snapshots, and would indent each deeper than the one before.
 */
function toJson(roots: readonly TreeNode[]): string {
  let text = "";
  // Nodes still to be written, and what closes those that are open.
  const waiting: (TreeNode | string)[] = ["]\n", ...separated(roots)];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (typeof next === "string") text += next;
    else {
      text += `\n{"entry":${JSON.stringify(next.entry)},"children":[`;
      waiting.push("]}", ...separated(next.children));
    }
  }
  return `[${text}`;
}

/** In reverse, because the last one that waits is the next one written. */
function separated(nodes: readonly TreeNode[]): (TreeNode | string)[] {
  return nodes.flatMap((node, index) => (index === 0 ? [node] : [",", node])).reverse();
}

/** How wide a drawing may be when it does not go to a terminal. */
const plainColumns = 160;

const margin = "    ";

function describe(root: TreeNode, columns: number): string {
  const drawing = drawTree(root, columns - margin.length).map((line) => `${margin}${line}\n`);
  return `${drawing.join("")}\n${vdiTable(entriesOf(root))}`;
}

/** All points of a family, in the order they came to be. */
function entriesOf(root: TreeNode): VdiEntry[] {
  const entries: VdiEntry[] = [];
  const waiting = [root];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    entries.push(node.entry);
    waiting.push(...node.children);
  }
  return entries.sort((a, b) => a.point - b.point);
}
