import { loggedExports } from "../block/logged-exports.ts";
import { type MeterOf, meteredExports } from "../block/metered-exports.ts";
import type { RequestMeter } from "../block/request-meter.ts";
import type { CallOutput, Control } from "../control/calls.ts";
import { Jobs } from "../control/jobs.ts";
import { createServerControl, statisticsOf } from "../control/server-control.ts";
import { ServerEvents } from "../control/server-events.ts";
import type { ConnectionEntry } from "../control/server-shapes.ts";
import { StatisticsHistory } from "../control/statistics/history.ts";
import { Meters } from "../control/statistics/meters.ts";
import type { NbdConnectionInfo } from "../nbd/server.ts";
import type { SheepdogConnectionInfo } from "../sheepdog/server.ts";
import type { CliContext, LocalStore } from "./context.ts";

/** What a server counts, remembers and tells while it runs. */
export class ServerWatch {
  readonly meters: Meters;
  readonly events = new ServerEvents();
  readonly history: StatisticsHistory;
  /** The store's disks, each of whose requests is counted. */
  readonly exports: LocalStore["exports"];
  readonly #context: CliContext;
  readonly #store: LocalStore;
  readonly #sources: (() => ConnectionEntry[])[] = [];
  #jobs: Jobs | undefined;

  /** `slowMs`: requests that take longer are logged. */
  constructor(
    context: CliContext,
    { store, slowMs }: { store: LocalStore; slowMs?: number | undefined },
  ) {
    const { clock, timers, log } = context.host;
    this.#context = context;
    this.#store = store;
    this.meters = new Meters({ slowMs }, { clock, log });
    this.history = new StatisticsHistory({ meters: this.meters, clock, timers });
    const meterOf: MeterOf = (name, protocol) => this.meters.of(name, protocol);
    this.exports = loggedExports(meteredExports(store.exports, meterOf), log);
    store.watch?.(this.events);
    this.events.listen((event) => {
      if (event.kind !== "change") return;
      const { what, name, detail } = event;
      log.info("change", { what, name, ...(detail === "" ? {} : { detail }) });
    });
  }

  /** Of a disk as a client of Sheepdog names it. */
  meterOfVid(vid: number): RequestMeter | undefined {
    const name = this.#store.nameOfVid?.(vid);
    return name === undefined ? undefined : this.meters.of(name, "sheepdog");
  }

  addConnections(source: () => ConnectionEntry[]): void {
    this.#sources.push(source);
  }

  readonly connections = (): ConnectionEntry[] => this.#sources.flatMap((source) => source());

  readonly jobs = () => this.#jobs?.list() ?? [];

  /** The store's control with what only this server knows, and begins to take figures. */
  control(info: CallOutput<"server.info">): Control {
    const { clock } = this.#context.host;
    const { control } = this.#store;
    const { events, history, connections } = this;
    const tell = events.emit.bind(events);
    const jobs = new Jobs({ control, clock, tell });
    this.#jobs = jobs;
    const figures = this.figures;
    const parts = { clock, history, connections, figures };
    history.start(() => {
      tell({ kind: "statistics", statistics: statisticsOf(parts) });
    });
    return createServerControl({ control, info, jobs, events, ...parts });
  }

  get figures() {
    const { figures } = this.#store;
    return figures === undefined ? undefined : () => figures.call(this.#store);
  }

  async close(): Promise<void> {
    this.history.close();
    this.#jobs?.close();
  }
}

export function nbdConnection(info: NbdConnectionInfo): ConnectionEntry {
  const { peer, exportName, readOnly, headers, contexts, requests, requestsInFlight } = info;
  return {
    protocol: "nbd",
    peer,
    export: exportName ?? "",
    readOnly,
    features: [`${headers} headers`, ...contexts],
    requests,
    requestsInFlight,
  };
}

export function sheepdogConnection(info: SheepdogConnectionInfo): ConnectionEntry {
  return { protocol: "sheepdog", export: "", readOnly: false, features: [], ...info };
}
