import type { ExportClient } from "../../block/exports.ts";
import {
  type MeterKind,
  meterKind,
  meterKinds,
  type RequestMeter,
} from "../../block/request-meter.ts";
import type { Clock } from "../../host/clock.ts";
import type { Log } from "../../host/log.ts";
import { Latencies } from "./latencies.ts";

export interface MeterSettings {
  /** Requests that take as long are logged. */
  slowMs?: number | undefined;
}

export type Protocol = ExportClient["protocol"];

/** What the requests of one kind came to, since the server was started. */
export class CommandCounts {
  requests = 0;
  bytes = 0;
  errors = 0;
  /** Of those that were answered without an error. */
  readonly latencies = new Latencies();
}

/** The requests of one export over one protocol. */
export class ExportMeter implements RequestMeter {
  readonly exportName: string;
  readonly protocol: Protocol;
  readonly commands: readonly CommandCounts[] = meterKinds.map(() => new CommandCounts());
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #slowMs: number;

  constructor(
    settings: { exportName: string; protocol: Protocol } & MeterSettings,
    components: { clock: Clock; log: Log },
  ) {
    this.exportName = settings.exportName;
    this.protocol = settings.protocol;
    this.#slowMs = settings.slowMs ?? Number.POSITIVE_INFINITY;
    this.#clock = components.clock;
    this.#log = components.log;
  }

  nowMs(): number {
    return this.#clock.monotonicMs();
  }

  done(kind: MeterKind, bytes: number, tookMs: number): void {
    const counts = this.commands[kind] as CommandCounts;
    counts.requests++;
    if (kind <= meterKind.write) counts.bytes += bytes;
    counts.latencies.add(tookMs);
    if (tookMs >= this.#slowMs) this.#tellSlow(kind, bytes, tookMs);
  }

  failed(kind: MeterKind, _tookMs: number): void {
    const counts = this.commands[kind] as CommandCounts;
    counts.requests++;
    counts.errors++;
  }

  #tellSlow(kind: MeterKind, bytes: number, tookMs: number): void {
    const { exportName, protocol } = this;
    const fields = { export: exportName, protocol, command: meterKinds[kind], bytes };
    this.#log.warn("slow request", { ...fields, tookMs: Math.round(tookMs) });
  }
}

/** A meter takes some kilobytes; of more exports than this the rest is counted together. */
export const metersMax = 1024;
/** The name under which they are counted. No disk can be called so. */
export const otherExports = "";

/** The meters of all exports that were ever opened. */
export class Meters {
  readonly #settings: MeterSettings;
  readonly #components: { clock: Clock; log: Log };
  readonly #byKey = new Map<string, ExportMeter>();

  constructor(settings: MeterSettings, components: { clock: Clock; log: Log }) {
    this.#settings = settings;
    this.#components = components;
  }

  /** The same one for the same names. */
  of(exportName: string, protocol: Protocol): ExportMeter {
    const isRoom = this.#byKey.size < metersMax || this.#byKey.has(keyOf(exportName, protocol));
    const name = isRoom ? exportName : otherExports;
    const key = keyOf(name, protocol);
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const settings = { exportName: name, protocol, ...this.#settings };
    const meter = new ExportMeter(settings, this.#components);
    this.#byKey.set(key, meter);
    return meter;
  }

  values(): IterableIterator<ExportMeter> {
    return this.#byKey.values();
  }
}

function keyOf(exportName: string, protocol: Protocol): string {
  return `${protocol} ${exportName}`;
}
