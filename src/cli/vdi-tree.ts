import type { Command } from "commander";
import type { TreeNode, VdiEntry } from "../control/calls.ts";
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
        const roots = await control.call("vdi.tree", name === undefined ? {} : { name });
        const columns = cli.context.stdout.isTerminal ? cli.context.stdout.columns : plainColumns;
        await printer.print(roots, () => roots.map((root) => describe(root, columns)).join("\n"));
        return 0;
      }),
    );
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
