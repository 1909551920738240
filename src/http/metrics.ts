import { collectDefaultMetrics, Registry } from "@prometheus-io/client";
import { meterKinds } from "../block/request-meter.ts";
import type { ConnectionEntry, JobEntry, StoreFigures } from "../control/server-shapes.ts";
import { boundMs } from "../control/statistics/latencies.ts";
import type { CommandCounts, Meters } from "../control/statistics/meters.ts";
import type { Metrics } from "./app.ts";

export interface MetricSources {
  version: string;
  meters: Meters;
  connections: () => readonly ConnectionEntry[];
  jobs: () => readonly JobEntry[];
  /** Absent if the store is elsewhere. */
  figures?: (() => StoreFigures) | undefined;
}

type Labels = Record<string, string | number>;

interface Value {
  labels: Labels;
  value: number;
  /** Of histograms: the family's name and "_bucket", "_sum" or "_count". */
  metricName?: string;
}

/** One family of figures: what docs/metrics.md lists. */
export interface MetricFamily {
  name: string;
  type: "counter" | "gauge" | "histogram";
  help: string;
  values: () => Value[];
}

/**
 * The figures in Prometheus' text format. Nothing is counted here: they are read from where they are counted
 * whenever they are asked for, so that a request costs the same whether anybody watches.
 */
export function createMetrics(sources: MetricSources): Metrics {
  const register = new Registry();
  collectDefaultMetrics({ register });
  for (const { name, type, help, values } of metricFamilies(sources)) {
    const get = async () => ({ name, help, type, values: values(), aggregator: "sum" });
    register.registerMetric({ name, get } as never);
  }
  return { contentType: register.contentType, text: () => register.metrics() };
}

export function metricFamilies(sources: MetricSources): MetricFamily[] {
  const { version, figures } = sources;
  return [
    {
      name: "kelpie_build_info",
      type: "gauge",
      help: "1; the label is the version.",
      values: () => [{ labels: { version }, value: 1 }],
    },
    ...requestFamilies(sources),
    ...serverFamilies(sources),
    ...(figures === undefined ? [] : storeFamilies(figures)),
  ];
}

function requestFamilies({ meters }: MetricSources): MetricFamily[] {
  const each = (values: (counts: CommandCounts, labels: Labels) => Value[]): Value[] => {
    const found: Value[] = [];
    for (const { exportName, protocol, commands } of meters.values()) {
      commands.forEach((counts, kind) => {
        if (counts.requests === 0) return;
        const command = meterKinds[kind] ?? "other";
        found.push(...values(counts, { disk: exportName, protocol, command }));
      });
    }
    return found;
  };
  return [
    {
      name: "kelpie_requests_total",
      type: "counter",
      help: "Requests answered, by export, protocol and command.",
      values: () => each(({ requests }, labels) => [{ labels, value: requests }]),
    },
    {
      name: "kelpie_request_bytes_total",
      type: "counter",
      help: "Bytes that reads and writes moved.",
      values: () => each(({ bytes }, labels) => (bytes === 0 ? [] : [{ labels, value: bytes }])),
    },
    {
      name: "kelpie_request_errors_total",
      type: "counter",
      help: "Requests answered with an error.",
      values: () => each(({ errors }, labels) => [{ labels, value: errors }]),
    },
    {
      name: "kelpie_request_duration_seconds",
      type: "histogram",
      help: "From when a request was begun to its answer, of those without an error.",
      values: () => each(histogram),
    },
  ];
}

/** Every eighth of the bounds that are counted by, from 16 us to 17 s: each is 4 times the one before. */
const bucketsPerBound = 8;
const firstBound = 4 * 4;
const lastBound = 4 * 25;

function histogram({ latencies }: CommandCounts, labels: Labels): Value[] {
  const name = "kelpie_request_duration_seconds";
  const values: Value[] = [];
  let count = 0;
  latencies.counts.forEach((more, bucket) => {
    const next = bucket + 1;
    count += more;
    const isBound = next >= firstBound && next < lastBound && next % bucketsPerBound === 0;
    if (!isBound) return;
    const le = boundMs(bucket) / 1000;
    values.push({ labels: { ...labels, le }, value: count, metricName: `${name}_bucket` });
  });
  values.push({ labels: { ...labels, le: "+Inf" }, value: count, metricName: `${name}_bucket` });
  values.push({ labels, value: latencies.sumMs / 1000, metricName: `${name}_sum` });
  values.push({ labels, value: count, metricName: `${name}_count` });
  return values;
}

function serverFamilies({ connections, jobs }: MetricSources): MetricFamily[] {
  return [
    {
      name: "kelpie_connections",
      type: "gauge",
      help: "Connections to exports, by protocol.",
      values: () => byProtocol(connections(), () => 1),
    },
    {
      name: "kelpie_requests_in_flight",
      type: "gauge",
      help: "Requests that are not answered yet, by protocol.",
      values: () => byProtocol(connections(), ({ requestsInFlight }) => requestsInFlight),
    },
    {
      name: "kelpie_jobs_running",
      type: "gauge",
      help: "Long work under way: checks, cleaning, copies.",
      values: () => [
        { labels: {}, value: jobs().filter(({ state }) => state === "running").length },
      ],
    },
  ];
}

function byProtocol(
  connections: readonly ConnectionEntry[],
  amount: (connection: ConnectionEntry) => number,
): Value[] {
  const sums = new Map([
    ["nbd", 0],
    ["sheepdog", 0],
  ]);
  for (const connection of connections) {
    const { protocol } = connection;
    sums.set(protocol, (sums.get(protocol) ?? 0) + amount(connection));
  }
  return [...sums].map(([protocol, value]) => ({ labels: { protocol }, value }));
}

/** Name, type and meaning of what the store counts. */
const storeTable: Record<keyof StoreFigures, [string, "counter" | "gauge", string]> = {
  appends: ["kelpie_log_appends_total", "counter", "Batches of writes appended to logs."],
  appendedBytes: ["kelpie_log_appended_bytes_total", "counter", "Bytes appended to logs."],
  syncs: [
    "kelpie_log_syncs_total",
    "counter",
    "Times that a segment was made safe from power loss.",
  ],
  flushes: [
    "kelpie_log_flushes_total",
    "counter",
    "Flushes that had something to wait for; over syncs, it is how many share one.",
  ],
  syncRepairs: [
    "kelpie_log_sync_repairs_total",
    "counter",
    "Failed syncs whose data was written again.",
  ],
  segments: ["kelpie_segments", "gauge", "Segments."],
  usedBytes: ["kelpie_store_used_bytes", "gauge", "Bytes of all segments."],
  liveBytes: [
    "kelpie_store_live_bytes",
    "gauge",
    "Of those, bytes of blocks that some point holds.",
  ],
  mapBytes: ["kelpie_store_map_bytes", "gauge", "Bytes of maps on the disk."],
  freeBytes: ["kelpie_store_free_bytes", "gauge", "Free on the store's file system."],
  reserveBytes: ["kelpie_store_reserve_bytes", "gauge", "Of those, what guests may not use."],
  cleanedSegments: ["kelpie_cleaned_segments_total", "counter", "Segments cleaned or removed."],
  cleanedBytes: ["kelpie_cleaned_bytes_total", "counter", "Bytes that cleaning gave back."],
  deletedPoints: ["kelpie_points_to_purge", "gauge", "Points that are deleted and not purged yet."],
  points: [
    "kelpie_points",
    "gauge",
    "Points: working VDIs, snapshots, and what is kept for a while.",
  ],
  mapCacheBytes: [
    "kelpie_map_cache_bytes",
    "gauge",
    "Bytes of maps in memory that may be dropped.",
  ],
  mapLoads: ["kelpie_map_loads_total", "counter", "Times that a part of a map was loaded."],
  segmentReads: ["kelpie_segment_reads_total", "counter", "Reads of segments."],
  catalogRecords: ["kelpie_catalog_records_total", "counter", "Records of structural changes."],
};

function storeFamilies(figures: () => StoreFigures): MetricFamily[] {
  return (Object.keys(storeTable) as (keyof StoreFigures)[]).map((key) => {
    const [name, type, help] = storeTable[key];
    return { name, type, help, values: () => [{ labels: {}, value: figures()[key] }] };
  });
}
