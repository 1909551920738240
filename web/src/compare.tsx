import { useEffect, useState } from "preact/hooks";
import type { VdiEntry } from "../../src/control/calls.ts";
import { type CallError, call } from "./api.ts";
import { size } from "./format.ts";
import { titleOf } from "./points.ts";

/** Parts that the map of a disk is drawn in. */
const cells = 256;
const columns = 64;
/** Pages of ranges that are asked for; what comes then is not looked at. */
const pagesMax = 64;

interface Difference {
  /** How much of each part differs, 0 to 1. */
  shares: number[];
  bytes: number;
  isWhole: boolean;
}

interface Props {
  entry: VdiEntry;
  family: readonly VdiEntry[];
}

/** What differs between a point and another snapshot, as a map of the disk. */
export function CompareCard({ entry, family }: Props) {
  const others = family.filter(
    ({ kind, point, name }) => kind === "snapshot" && point !== entry.point && name === entry.name,
  );
  const parent = others.find(({ point }) => point === entry.parent) ?? others[0];
  const [from, setFrom] = useState(parent?.point);
  const [found, setFound] = useState<Difference | CallError>();
  const base = others.find(({ point }) => point === from) ?? parent;
  useEffect(() => {
    let isOld = false;
    setFound(undefined);
    if (base === undefined) return;
    compare(entry, base).then(
      (difference) => isOld || setFound(difference),
      (error: CallError) => isOld || setFound(error),
    );
    return () => {
      isOld = true;
    };
  }, [entry.point, base?.point]);
  if (base === undefined) return null;
  return (
    <section class="card" aria-label="What differs">
      <h2>
        <label>
          Since{" "}
          <select
            value={base.point}
            onChange={(event) => setFrom(Number(event.currentTarget.value))}
          >
            {others.map((other) => (
              <option value={other.point} key={other.point}>
                {titleOf(other)}
              </option>
            ))}
          </select>
        </label>
      </h2>
      {found === undefined ? <p class="muted">Looking…</p> : <Found found={found} entry={entry} />}
    </section>
  );
}

function Found({ found, entry }: { found: Difference | CallError; entry: VdiEntry }) {
  if (found instanceof Error) return <p class="error">{found.message}</p>;
  const { shares, bytes, isWhole } = found;
  const text = `${isWhole ? "" : "More than "}${size(bytes)} of ${size(entry.sizeBytes)} differ`;
  return (
    <>
      <svg class="map" viewBox={`0 0 ${columns} ${cells / columns}`} role="img" aria-label={text}>
        {shares.map((share, index) => (
          <rect
            key={index}
            x={index % columns}
            y={Math.floor(index / columns)}
            width="0.86"
            height="0.86"
            rx="0.16"
            class={share === 0 ? "same" : "changed"}
            opacity={share === 0 ? 1 : 0.35 + 0.65 * Math.sqrt(share)}
          />
        ))}
      </svg>
      <p class="muted">{text}. The map is the disk from its start to its end.</p>
    </>
  );
}

async function compare(to: VdiEntry, from: VdiEntry): Promise<Difference> {
  const shares = new Array<number>(cells).fill(0);
  const cellBytes = Math.max(1, to.sizeBytes / cells);
  let bytes = 0;
  let offset: number | null = 0;
  for (let page = 0; offset !== null && page < pagesMax; page++) {
    const answer: { ranges: { offset: number; length: number }[]; next: number | null } =
      await call("vdi.diff", {
        name: to.name,
        from: `#${from.snapId}`,
        offset,
        ...(to.kind === "snapshot" ? { to: `#${to.snapId}` } : {}),
      });
    for (const range of answer.ranges) {
      bytes += range.length;
      for (let at = range.offset; at < range.offset + range.length; ) {
        const cell = Math.min(cells - 1, Math.floor(at / cellBytes));
        const end = Math.min(range.offset + range.length, (cell + 1) * cellBytes);
        shares[cell] = Math.min(1, (shares[cell] ?? 0) + (end - at) / cellBytes);
        at = Math.max(end, at + 1);
      }
    }
    offset = answer.next;
  }
  return { shares, bytes, isWhole: offset === null };
}
