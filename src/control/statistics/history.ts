import { meterKind } from "../../block/request-meter.ts";
import type { Clock } from "../../host/clock.ts";
import type { Timer, Timers } from "../../host/timers.ts";
import type { Figures, Series } from "../server-shapes.ts";
import { bucketCount, percentileMs } from "./latencies.ts";
import type { CommandCounts, Meters } from "./meters.ts";

/** How long a step of the record is, and how many there are: an hour. */
export const stepMs = 5000;
export const stepCount = 720;
/** Exports with a record of their own; 23 KB each. */
const recordsMax = 256;

const columns = [
  "readOps",
  "writeOps",
  "otherOps",
  "readBytes",
  "writeBytes",
  "errors",
  "p50Ms",
  "p99Ms",
] as const satisfies readonly (keyof Figures)[];

/** What was counted up to some moment; latencies of all kinds together. */
class Counted {
  ops = [0, 0, 0];
  bytes = [0, 0];
  errors = 0;
  readonly latencies = new Float64Array(bucketCount);

  add(commands: readonly CommandCounts[]): void {
    commands.forEach((counts, kind) => {
      const column = Math.min(kind, 2);
      this.ops[column] = (this.ops[column] ?? 0) + counts.requests;
      if (kind <= meterKind.write) this.bytes[kind] = (this.bytes[kind] ?? 0) + counts.bytes;
      this.errors += counts.errors;
      if (counts.requests === 0) return;
      counts.latencies.counts.forEach((count, bucket) => {
        this.latencies[bucket] = (this.latencies[bucket] ?? 0) + count;
      });
    });
  }
}

/** One line of figures over time, in a ring. */
class Record {
  before = new Counted();
  /** Nothing came in the newest step. */
  isIdle = true;
  readonly #rings = columns.map(() => new Float32Array(stepCount));

  put(at: number, figures: Figures): void {
    columns.forEach((column, index) => {
      const ring = this.#rings[index] as Float32Array;
      ring[at % stepCount] = figures[column];
    });
    this.isIdle = columns.every((column) => figures[column] === 0);
  }

  get(at: number): Figures {
    const found = columns.map((column, index) => [column, this.#rings[index]?.[at % stepCount]]);
    return Object.fromEntries(found) as Figures;
  }

  series(from: number, to: number): Series {
    const found = columns.map((column, index): [string, number[]] => {
      const values: number[] = [];
      for (let at = from; at < to; at++) values.push(this.#rings[index]?.[at % stepCount] ?? 0);
      return [column, values];
    });
    return Object.fromEntries(found) as Series;
  }
}

/** The name of the record of everything. No disk is called so. */
const everything = "";

/** Figures of the last hour, of everything and of each export. */
export class StatisticsHistory {
  readonly #meters: Meters;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #records = new Map<string, Record>([[everything, new Record()]]);
  readonly #startedMs: number;
  #timer: Timer | undefined;
  /** Steps taken. */
  #steps = 0;
  #lastMs: number;

  constructor(components: { meters: Meters; clock: Clock; timers: Timers }) {
    this.#meters = components.meters;
    this.#clock = components.clock;
    this.#timers = components.timers;
    this.#startedMs = this.#clock.nowMs();
    this.#lastMs = this.#clock.monotonicMs();
  }

  /** Takes a step each `stepMs` until it is closed, and says so each time. */
  start(stepped: () => void = () => {}): void {
    this.#timer = this.#timers.after(stepMs, () => {
      this.step();
      this.start(stepped);
      stepped();
    });
  }

  close(): void {
    this.#timer?.cancel();
  }

  step(): void {
    const nowMs = this.#clock.monotonicMs();
    const seconds = Math.max(0.001, (nowMs - this.#lastMs) / 1000);
    this.#lastMs = nowMs;
    const counted = this.#count();
    for (const [name, now] of counted) {
      const record = this.#recordOf(name);
      if (record === undefined) continue;
      record.put(this.#steps, figuresBetween(record.before, now, seconds));
      record.before = now;
    }
    this.#steps++;
  }

  /** Of the newest step: of everything, and of each export that was used in it. */
  latest(): { total: Figures; exports: ({ name: string } & Figures)[] } {
    const at = this.#steps - 1;
    const exports = [...this.#records]
      .filter(([name, record]) => name !== everything && !record.isIdle)
      .map(([name, record]) => ({ name, ...record.get(at) }));
    const total = at < 0 ? noFigures : (this.#records.get(everything)?.get(at) ?? noFigures);
    return { total, exports: at < 0 ? [] : exports };
  }

  /** Of one export, or of everything; all columns are equally long. */
  series(name: string | undefined): { fromMs: number; stepMs: number; series: Series } {
    const from = Math.max(0, this.#steps - stepCount);
    const record = this.#records.get(name ?? everything) ?? new Record();
    return {
      fromMs: this.#startedMs + from * stepMs,
      stepMs,
      series: record.series(from, this.#steps),
    };
  }

  #count(): Map<string, Counted> {
    const total = new Counted();
    const counted = new Map<string, Counted>([[everything, total]]);
    for (const { exportName, commands } of this.#meters.values()) {
      total.add(commands);
      // Of exports beyond the limit there is no more than that.
      if (exportName === everything) continue;
      const one = counted.get(exportName) ?? new Counted();
      one.add(commands);
      counted.set(exportName, one);
    }
    return counted;
  }

  #recordOf(name: string): Record | undefined {
    const known = this.#records.get(name);
    if (known !== undefined || this.#records.size > recordsMax) return known;
    const record = new Record();
    this.#records.set(name, record);
    return record;
  }
}

export const noFigures: Figures = {
  readOps: 0,
  writeOps: 0,
  otherOps: 0,
  readBytes: 0,
  writeBytes: 0,
  errors: 0,
  p50Ms: 0,
  p99Ms: 0,
};

function figuresBetween(before: Counted, now: Counted, seconds: number): Figures {
  const rate = (after: number | undefined, earlier: number | undefined): number =>
    ((after ?? 0) - (earlier ?? 0)) / seconds;
  const latencies = now.latencies.map((count, at) => count - (before.latencies[at] ?? 0));
  return {
    readOps: rate(now.ops[0], before.ops[0]),
    writeOps: rate(now.ops[1], before.ops[1]),
    otherOps: rate(now.ops[2], before.ops[2]),
    readBytes: rate(now.bytes[0], before.bytes[0]),
    writeBytes: rate(now.bytes[1], before.bytes[1]),
    errors: rate(now.errors, before.errors),
    p50Ms: percentileMs(latencies, 0.5),
    p99Ms: percentileMs(latencies, 0.99),
  };
}
