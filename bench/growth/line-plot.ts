export interface Series {
  name: string;
  /** One for each value of the axis. */
  values: number[];
}

export interface LinePlot {
  title: string;
  unit: string;
  axis: { label: string; values: number[]; ticks: string[] };
  series: Series[];
}

const width = 720;
const height = 420;
const left = 70;
const right = 230;
const top = 40;
const bottom = 60;
/** Told apart without colour vision (Okabe and Ito). */
const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444"];

/** Lines over two logarithmic axes, as SVG: what does not grow is flat, what is linear goes up by as much. */
export function linePlot(plot: LinePlot): string {
  const { axis, series } = plot;
  const all = series.flatMap(({ values }) => values).filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...all)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...all))));
  const [from, to] = [Math.log(Math.min(...axis.values)), Math.log(Math.max(...axis.values))];
  const x = (value: number) =>
    left + ((Math.log(value) - from) / (to - from)) * (width - left - right);
  const y = (value: number) =>
    height - bottom - ((Math.log10(value) - low) / (high - low)) * (height - top - bottom);
  const parts = [
    text(left, 24, plot.title, "start", 16),
    text(left, height - 14, axis.label, "start"),
    ...grid({ low, high, y, unit: plot.unit }),
    ...axis.values.map((value, at) =>
      text(x(value), height - bottom + 18, axis.ticks[at] ?? "", "middle"),
    ),
    ...series.flatMap((one, at) => drawn(one, { at, axis: axis.values, x, y })),
    ...legend(series, y),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}"`,
    ` width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<title>${plot.title}</title>`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    ...parts,
    "</svg>\n",
  ].join("\n");
}

function grid(of: { low: number; high: number; y: (value: number) => number; unit: string }) {
  const parts = [text(left, top - 2, of.unit, "start", 11)];
  for (let power = of.low; power <= of.high; power++) {
    const at = of.y(10 ** power).toFixed(1);
    parts.push(`<path d="M${left} ${at}H${width - right}" stroke="#dddddd"/>`);
    parts.push(text(left - 8, Number(at) + 4, String(10 ** power), "end"));
  }
  return parts;
}

function drawn(
  series: Series,
  on: {
    at: number;
    axis: readonly number[];
    x: (value: number) => number;
    y: (value: number) => number;
  },
): string[] {
  const points = series.values.flatMap((value, at) => {
    const position = on.axis[at];
    if (value <= 0 || position === undefined) return [];
    return [`${on.x(position).toFixed(1)},${on.y(value).toFixed(1)}`];
  });
  const colour = colourOf(on.at);
  return [
    `<polyline points="${points.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`,
    ...points.map((point) => {
      const [cx, cy] = point.split(",");
      return `<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`;
    }),
  ];
}

/** Beside the end of each line, pushed apart where they meet. */
function legend(series: readonly Series[], y: (value: number) => number): string[] {
  const ends = series
    .map(({ name, values }, at) => ({ name, colour: colourOf(at), at: y(values.at(-1) || 1) }))
    .sort((a, b) => a.at - b.at);
  let free = top;
  return ends.map(({ name, colour, at }) => {
    const place = Math.max(at + 4, free);
    free = place + 15;
    return text(width - right + 10, place, name, "start", 12, colour);
  });
}

function colourOf(at: number): string {
  return colours[at % colours.length] ?? "#000000";
}

function text(
  x: number,
  y: number,
  value: string,
  anchor: "start" | "middle" | "end",
  ...[size = 12, colour = "#222222"]: [number?, string?]
): string {
  const place = `x="${x.toFixed(1)}" y="${y.toFixed(1)}"`;
  const style = `text-anchor="${anchor}" font-size="${size}" fill="${colour}"`;
  return `<text ${place} ${style}>${value}</text>`;
}
