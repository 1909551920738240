import type { TreeNode } from "../control/tree.ts";
import { printable } from "./text.ts";

/**
 * Draws a family the way its history went, each point with an arrow to the one it stands on:
 *
 *     base <-- snap1 <-- snap2
 *                ^
 *                |
 *     disk1 (you are here)
 *
 * One child goes on along the line; the others hang below their parent. If that is wider than
 * `columns`, long runs of snapshots with nothing else on them are drawn as one; if that is not enough
 * either, the line goes down the page and not along it.
 */
export function drawTree(root: TreeNode, columns: number): string[] {
  const title = root.entry.name;
  const full = drawBranch(toBranch(root, title));
  if (widthOf(full) <= columns) return full;
  const short = collapse(toBranch(root, title));
  const collapsed = drawBranch(short);
  return widthOf(collapsed) <= columns ? collapsed : drawDown(short);
}

/** Points along one line, each with the branches that hang below it. */
interface Branch {
  stops: Stop[];
}

interface Stop {
  label: string;
  below: Branch[];
}

/** Loops along the line: a thousand snapshots are a long line, not a deep recursion. */
function toBranch(start: TreeNode, family: string): Branch {
  const stops: Stop[] = [];
  let node: TreeNode | undefined = start;
  while (node !== undefined) {
    const current: TreeNode = node;
    const next: TreeNode | undefined = continuation(current);
    const others = current.children.filter((child) => child !== next);
    stops.push({
      label: labelOf(current, family),
      below: others.sort(byPoint).map((child) => toBranch(child, family)),
    });
    node = next;
  }
  return { stops };
}

/** The oldest snapshot of the same disk goes on; clones and a working VDI beside it hang below. */
function continuation(node: TreeNode): TreeNode | undefined {
  const rank = ({ entry }: TreeNode): number =>
    (entry.name === node.entry.name ? 0 : 2) + (entry.kind === "snapshot" ? 0 : 1);
  return node.children.toSorted((a, b) => rank(a) - rank(b) || byPoint(a, b))[0];
}

function byPoint(a: TreeNode, b: TreeNode): number {
  return a.entry.point - b.entry.point;
}

function labelOf({ entry }: TreeNode, family: string): string {
  const name = printable(entry.name);
  if (entry.kind === "working") return `${name} (you are here)`;
  const tag = entry.tag === "" ? `#${entry.snapId}` : printable(entry.tag);
  return entry.name === family ? tag : `${name}@${tag}`;
}

const arrow = " <-- ";

/**
 * Rows of text, the line of points first. What hangs from a point further right is drawn higher; the
 * trunks of points further left run down beside it, and the gaps in the line leave room for them.
 */
function drawBranch(branch: Branch): string[] {
  const { line, centres } = drawLine(branch);
  const canvas = [line];
  for (let index = branch.stops.length - 1; index >= 0; index--) {
    const below = branch.stops[index]?.below ?? [];
    if (below.length > 0) hang(canvas, below, centres[index] ?? 0);
  }
  return canvas;
}

/** The line of points, and the column of each one's centre, where things hang from it. */
function drawLine({ stops }: Branch): { line: string; centres: number[] } {
  const centres: number[] = [];
  let line = "";
  let free = 0; // The first column that no trunk needs.
  for (const { label, below } of stops) {
    const half = Math.floor(label.length / 2);
    const gap = centres.length === 0 ? 0 : arrow.length;
    const centre = Math.max(line.length + gap + half, free + overhang(below));
    line = extend(line, centre - half) + label;
    centres.push(centre);
    if (below.length > 0) free = centre + 2;
  }
  return { line, centres };
}

/** Leads the line on to a column: blanks before the first point, an arrow as long as it takes after. */
function extend(line: string, column: number): string {
  if (line === "") return " ".repeat(column);
  return `${line} <${"-".repeat(column - line.length - 3)} `;
}

/** How far what hangs from a point reaches to the left of its centre: the last is centred under it. */
function overhang(below: Branch[]): number {
  const last = below.at(-1);
  return last === undefined ? 0 : centreOf(last);
}

/** Where a branch's drawing has the centre of its first point. */
function centreOf(branch: Branch): number {
  const first = branch.stops[0];
  if (first === undefined) return 0;
  return Math.max(Math.floor(first.label.length / 2), overhang(first.below));
}

function hang(canvas: string[], below: Branch[], centre: number): void {
  const bottom = canvas.length;
  put(canvas, { row: 1, column: centre, text: "^" });
  for (let row = 2; row < bottom; row++) put(canvas, { row, column: centre, text: "|" });
  below.forEach((branch, index) => {
    put(canvas, { row: Math.max(canvas.length, 2), column: centre, text: "|" });
    const isLast = index === below.length - 1;
    const column = isLast ? centre - centreOf(branch) : centre + 4;
    const firstRow = canvas.length;
    drawBranch(branch).forEach((text, row) => {
      if (!isLast) {
        put(canvas, { row: firstRow + row, column: centre, text: row === 0 ? "|--" : "|" });
      }
      put(canvas, { row: firstRow + row, column, text });
    });
  });
}

function put(
  canvas: string[],
  { row, column, text }: { row: number; column: number; text: string },
) {
  const old = (canvas[row] ?? "").padEnd(column);
  const bare = text.trimStart();
  const start = column + text.length - bare.length;
  canvas[row] = old.slice(0, start).padEnd(start) + bare + old.slice(start + bare.length);
}

/** The same from top to bottom: as long as it takes, and no wider than branches are nested. */
function drawDown({ stops }: Branch): string[] {
  const lines: string[] = [];
  stops.forEach(({ label, below }, index) => {
    const last = index === stops.length - 1;
    lines.push(label);
    if (last && below.length === 0) return;
    lines.push("^");
    for (const branch of below) {
      drawDown(branch).forEach((text, row) => {
        lines.push((row === 0 ? "|-- " : "|   ") + text);
      });
    }
    if (!last) lines.push("|");
  });
  return lines;
}

/** A run this short is drawn as it is. */
const runMin = 4;

function collapse({ stops }: Branch): Branch {
  const out: Stop[] = [];
  let run: Stop[] = [];
  const endRun = (): void => {
    const [first, last] = [run[0], run.at(-1)];
    if (run.length < runMin || first === undefined || last === undefined) out.push(...run);
    else out.push(first, { label: `… ${run.length - 2} more …`, below: [] }, last);
    run = [];
  };
  stops.forEach((stop, index) => {
    const plain = stop.below.length === 0 && index < stops.length - 1;
    if (plain) run.push(stop);
    else {
      endRun();
      out.push({ label: stop.label, below: stop.below.map(collapse) });
    }
  });
  endRun();
  return { stops: out };
}

function widthOf(lines: string[]): number {
  return Math.max(...lines.map((line) => line.length));
}
