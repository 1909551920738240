import { useMemo, useState } from "preact/hooks";
import type { Series, Statistics } from "../../src/control/server-shapes.ts";
import { Chart } from "./chart.tsx";
import { Now } from "./disks.tsx";
import { count, duration, size } from "./format.ts";
import { useCall } from "./server-state.ts";

export function LivePage() {
  const statistics = useCall("server.statistics", {}, ["statistics"]);
  const [shown, setShown] = useState("");
  const exports = statistics.value?.exports ?? [];
  return (
    <>
      <div class="heading">
        <h1>Live</h1>
        <span class="spacer" />
        <label class="muted">
          Of{" "}
          <select value={shown} onChange={(event) => setShown(event.currentTarget.value)}>
            <option value="">everything</option>
            {[...new Set([...exports.map(({ name }) => name), shown])]
              .filter((name) => name !== "")
              .map((name) => (
                <option value={name} key={name}>
                  {name}
                </option>
              ))}
          </select>
        </label>
      </div>
      {statistics.value !== undefined && <Numbers statistics={statistics.value} />}
      <Charts exportName={shown === "" ? undefined : shown} />
      {exports.length > 0 && (
        <section class="card" aria-label="Busy disks">
          <h2>Busy now</h2>
          <ul class="lines">
            {exports.map((figures) => (
              <li key={figures.name}>
                <strong>{figures.name || "others"}</strong>
                <span>
                  <Now figures={figures} />
                </span>
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function Numbers({ statistics }: { statistics: Statistics }) {
  const { total, connections, requestsInFlight, store } = statistics;
  const numbers: [string, string][] = [
    ["Requests", `${count(total.readOps + total.writeOps + total.otherOps)}/s`],
    ["Read", `${size(total.readBytes)}/s`],
    ["Written", `${size(total.writeBytes)}/s`],
    ["Half within", duration(total.p50Ms)],
    ["99 % within", duration(total.p99Ms)],
    ["In flight", count(requestsInFlight)],
    ["Connections", count(connections)],
    ["Errors", `${count(total.errors)}/s`],
  ];
  if (store !== undefined) {
    const { flushes, syncs, mapCacheBytes } = store;
    numbers.push(["Flushes a sync", syncs === 0 ? "–" : (flushes / syncs).toFixed(1)]);
    numbers.push(["Maps in memory", size(mapCacheBytes)]);
  }
  return (
    <dl class="numbers">
      {numbers.map(([label, value]) => (
        <div key={label}>
          <dt>{label}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

const noSeries: Series = {
  readOps: [],
  writeOps: [],
  otherOps: [],
  readBytes: [],
  writeBytes: [],
  errors: [],
  p50Ms: [],
  p99Ms: [],
};

/** The last hour of one export, or of everything. */
export function Charts({ exportName }: { exportName: string | undefined }) {
  const input = exportName === undefined ? {} : { export: exportName };
  const { value } = useCall("server.history", input, ["statistics"]);
  const { fromMs, stepMs, series } = value ?? { fromMs: 0, stepMs: 5000, series: noSeries };
  const shared = useMemo(() => ({ fromMs, stepMs }), [fromMs, stepMs]);
  return (
    <div class="charts">
      <Chart
        title="Requests a second"
        lines={[
          { label: "read", values: series.readOps },
          { label: "write", values: series.writeOps },
          { label: "other", values: series.otherOps },
        ]}
        format={count}
        {...shared}
      />
      <Chart
        title="Bytes a second"
        lines={[
          { label: "read", values: series.readBytes },
          { label: "written", values: series.writeBytes },
        ]}
        format={size}
        {...shared}
      />
      <Chart
        title="Time to answer"
        lines={[
          { label: "half within", values: series.p50Ms },
          { label: "99 % within", values: series.p99Ms },
        ]}
        format={duration}
        {...shared}
      />
    </div>
  );
}
