import { type BenchReport, isMet, ratioOf, type Target } from "./report.ts";
import { targetText } from "./table.ts";

const title = "Ratios measured in one run, as parts of their targets";
const width = 960;
const left = 470;
const right = 150;
const top = 70;
const rowHeight = 24;
const barHeight = 14;
/** Longer bars are cut: whether the target is met is what is to be seen. */
const sharesMax = 3;
/** Told apart without colour vision (Okabe and Ito). */
const colours = { met: "#0072b2", missed: "#d55e00" };

interface Bar {
  label: string;
  ratio: number;
  target: Target;
  met: boolean;
}

/** A bar for each ratio, as long as its part of the target: what goes beyond the line is met. */
export function barChart(report: Pick<BenchReport, "figures">): string {
  const bars = report.figures.flatMap(({ name, comparisons }) =>
    comparisons.flatMap((comparison): Bar[] => {
      const met = isMet(comparison);
      const { target, beside } = comparison;
      if (target === undefined || met === undefined) return [];
      return [{ label: `${shorten(name)} / ${beside}`, ratio: ratioOf(comparison), target, met }];
    }),
  );
  const height = top + bars.length * rowHeight + 20;
  const x = (share: number) => left + (share / sharesMax) * (width - left - right);
  const line = `M${x(1)} ${top - 8}V${height - 16}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}"`,
    ` width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<title>${title}</title>`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    text(20, 26, title, "start", 16),
    text(x(1), top - 14, "target", "middle"),
    ...bars.flatMap((bar, at) => drawn(bar, top + at * rowHeight, x)),
    `<path d="${line}" stroke="#222222" stroke-width="1.5"/>`,
    "</svg>\n",
  ].join("\n");
}

function drawn(bar: Bar, y: number, x: (share: number) => number): string[] {
  const { label, ratio, target, met } = bar;
  const share = "atLeast" in target ? ratio / target.atLeast : target.under / ratio;
  const end = x(Math.min(sharesMax, share));
  const size = `width="${(end - left).toFixed(1)}" height="${barHeight}"`;
  const colour = met ? colours.met : colours.missed;
  const value = `${ratio.toFixed(2)} (${targetText(target)})`;
  return [
    text(left - 8, y + barHeight - 3, label, "end"),
    `<rect x="${left}" y="${y}" ${size} fill="${colour}"/>`,
    text(end + 6, y + barHeight - 3, value, "start"),
  ];
}

/** Of a long name, what fits beside a bar. */
function shorten(name: string): string {
  const short = name.split(" after random overwrite")[0] ?? name;
  return short.length > 52 ? `${short.slice(0, 51)}…` : short;
}

function text(
  x: number,
  y: number,
  value: string,
  anchor: "start" | "middle" | "end",
  size = 12,
): string {
  const place = `x="${x.toFixed(1)}" y="${y.toFixed(1)}"`;
  const style = `text-anchor="${anchor}" font-size="${size}" fill="#222222"`;
  return `<text ${place} ${style}>${escaped(value)}</text>`;
}

function escaped(value: string): string {
  return value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
