import { useState } from "preact/hooks";
import { minute, time } from "./format.ts";

interface Line {
  label: string;
  /** One for each step; all lines are equally long. */
  values: readonly number[];
}

interface ChartProps {
  title: string;
  lines: readonly Line[];
  format: (value: number) => string;
  /** When the first step began, and how long each is. */
  fromMs: number;
  stepMs: number;
}

const width = 600;
const height = 132;
/** Steps in an hour: what is not there yet stays empty on the left. */
const stepCount = 720;

/** Lines over the last hour. The pointer reads a moment off; the newest is written beside the title. */
export function Chart({ title, lines, format, fromMs, stepMs }: ChartProps) {
  const [at, setAt] = useState<number>();
  const length = lines[0]?.values.length ?? 0;
  const top = niceTop(Math.max(0, ...lines.flatMap(({ values }) => values)));
  const shown = at === undefined || at >= length ? length - 1 : at;
  const endMs = fromMs + length * stepMs;
  const x = (step: number) => width - ((length - 1 - step) * width) / (stepCount - 1);
  const y = (value: number) => height - (value / top) * height;
  const read = (event: PointerEvent) => {
    const box = (event.currentTarget as SVGElement).getBoundingClientRect();
    const share = (event.clientX - box.left) / Math.max(1, box.width);
    setAt(Math.max(0, Math.round(length - 1 - (1 - share) * (stepCount - 1))));
  };
  const newest = lines.map(({ label, values }) => `${label} ${format(values.at(-1) ?? 0)}`);
  return (
    <figure class="chart card">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="legend">
          {lines.map(({ label, values }, index) => (
            <span class={`key line-${index}`} key={label}>
              {label} <b>{length === 0 ? "–" : format(values[shown] ?? 0)}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <svg
        viewBox={`0 -4 ${width} ${height + 8}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${title}, now: ${newest.join(", ")}`}
        onPointerMove={read}
        onPointerLeave={() => setAt(undefined)}
      >
        {[0, 0.5, 1].map((share) => (
          <path class="grid" d={`M0 ${y(top * share)}H${width}`} key={share} />
        ))}
        {lines.map(({ label, values }, index) => (
          <Curve key={label} index={index} points={values.map((v, step) => [x(step), y(v)])} />
        ))}
        {at !== undefined && length > 0 && <path class="cursor" d={`M${x(shown)} 0V${height}`} />}
      </svg>
      <div class="axis" aria-hidden="true">
        <span>{minute(endMs - stepCount * stepMs)}</span>
        <span>
          {at === undefined ? `top: ${format(top)}` : time(fromMs + (shown + 1) * stepMs)}
        </span>
        <span>{length === 0 ? "" : minute(endMs)}</span>
      </div>
    </figure>
  );
}

function Curve({ index, points }: { index: number; points: readonly (readonly number[])[] }) {
  const [first] = points;
  if (first === undefined) return null;
  const path = points.map(([px = 0, py = 0]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L");
  return (
    <>
      {index === 0 && (
        <path class="area line-0" d={`M${first[0]} ${height}L${path}L${width} ${height}z`} />
      )}
      <path class={`curve line-${index}`} d={`M${path}`} />
    </>
  );
}

/** The next of 1, 2, 5, 10 … that is not below it. */
function niceTop(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 5]) if (step * power >= value) return step * power;
  return 10 * power;
}
