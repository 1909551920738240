import { type Box, countByKind, prune } from "./fold.ts";
import type { Kind } from "./frames.ts";

const width = 1200;
const margin = 10;
const rowHeight = 17;
const top = 64;
const characterWidth = 6.6;
/** Smaller ones are not to be seen. */
const shareMin = 0.003;

/** Told apart without colour vision (Okabe and Ito, lighter), and what a legend calls them. */
export const kinds: Record<Kind, { colour: string; text: string }> = {
  kelpie: { colour: "#f5b041", text: "Kelpie" },
  packages: { colour: "#f2e27a", text: "packages" },
  node: { colour: "#7fcdbb", text: "JavaScript of Node.js" },
  native: { colour: "#9ec9ee", text: "native code of Node.js, V8 and libraries" },
  kernel: { colour: "#d7a6c4", text: "kernel" },
};

/** A flame graph: a box is as wide as its part of the samples, and stands on what called it. */
export function drawFlame(title: string, tree: Box): string {
  const shown = prune(tree, Math.max(1, tree.count * shareMin));
  const height = top + depthOf(shown) * rowHeight + margin;
  const on: Canvas = {
    total: tree.count,
    scale: (width - 2 * margin) / tree.count,
    bottom: height - margin,
  };
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}"`,
    ` width="${width}" height="${height}" font-family="sans-serif" font-size="11">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="${margin}" y="24" font-size="16">${escaped(title)}</text>`,
    ...legend(tree),
    ...boxes(shown, { row: 0, x: margin }, on),
    "</svg>\n",
  ].join("\n");
}

interface Canvas {
  /** Samples in all. */
  total: number;
  /** Of a sample, in pixels. */
  scale: number;
  bottom: number;
}

function boxes(box: Box, at: { row: number; x: number }, on: Canvas): string[] {
  const { row, x } = at;
  const boxWidth = box.count * on.scale;
  const y = on.bottom - (row + 1) * rowHeight;
  const share = percent(box.count / on.total);
  const label = shortened(box.name, Math.floor((boxWidth - 4) / characterWidth));
  const parts = [
    `<g><title>${escaped(box.name)}: ${share}</title>`,
    `<rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(0.5, boxWidth - 0.5).toFixed(1)}"`,
    ` height="${rowHeight - 1}" fill="${kinds[box.kind].colour}"/>`,
    label === "" ? "" : `<text x="${(x + 3).toFixed(1)}" y="${y + 12}">${escaped(label)}</text>`,
    "</g>",
  ].join("");
  const children: string[] = [];
  let from = x;
  const sorted = [...box.children.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const child of sorted) {
    children.push(...boxes(child, { row: row + 1, x: from }, on));
    from += child.count * on.scale;
  }
  return [parts, ...children];
}

/** With the share of samples whose innermost function is of the kind. */
function legend(tree: Box): string[] {
  const counts = countByKind(tree);
  let x = margin;
  return (Object.keys(kinds) as Kind[]).flatMap((kind) => {
    const { colour, text } = kinds[kind];
    const label = `${text} ${percent((counts.get(kind) ?? 0) / tree.count)}`;
    const parts = [
      `<rect x="${x}" y="36" width="12" height="12" fill="${colour}"/>`,
      `<text x="${x + 17}" y="46">${label}</text>`,
    ];
    x += 40 + Math.ceil(label.length * characterWidth);
    return parts;
  });
}

function depthOf(box: Box): number {
  return 1 + Math.max(0, ...[...box.children.values()].map(depthOf));
}

/** Nothing if only a few letters have room: they would say nothing. */
function shortened(name: string, length: number): string {
  if (name.length <= length) return name;
  return length < 4 ? "" : `${name.slice(0, length - 1)}…`;
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
