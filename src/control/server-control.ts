import type { Clock } from "../host/clock.ts";
import type { CallArguments, CallName, CallOutput, Control } from "./calls.ts";
import { calls } from "./calls.ts";
import type { Handlers } from "./control.ts";
import type { Jobs } from "./jobs.ts";
import type { ServerEvents } from "./server-events.ts";
import type { ConnectionEntry, Statistics, StoreFigures } from "./server-shapes.ts";
import { type StatisticsHistory, stepMs } from "./statistics/history.ts";

export interface ServerControlComponents {
  /** Of the store. */
  control: Control;
  info: CallOutput<"server.info">;
  clock: Clock;
  jobs: Jobs;
  events: ServerEvents;
  history: StatisticsHistory;
  connections: () => ConnectionEntry[];
  /** Absent if the store is elsewhere. */
  figures?: (() => StoreFigures) | undefined;
}

type ServerCall = Extract<CallName, `server.${string}` | `job.${string}`>;

/** A store's control, with what only the server that has it open knows. */
export function createServerControl(components: ServerControlComponents): Control {
  const { control, jobs } = components;
  const handlers = serverCalls(components);
  return {
    async call(name, input, context = {}) {
      type Output = CallOutput<typeof name>;
      const handler = (handlers as Partial<Handlers<CallName>>)[name];
      if (handler !== undefined) {
        const parsed = calls[name].input.parse(input) as CallArguments<typeof name>;
        return (await (handler as Handlers<CallName>[typeof name])(parsed, context)) as Output;
      }
      if (calls[name].kind === "work") return (await jobs.run(name, input, context)) as Output;
      return control.call(name, input, context);
    },
  };
}

function serverCalls(components: ServerControlComponents): Handlers<ServerCall> {
  const { info, jobs, events, history, connections } = components;
  return {
    "server.info": async () => info,
    "server.statistics": async () => statisticsOf(components),
    "server.history": async ({ export: name }) => history.series(name),
    "server.connections": async () => connections(),
    "server.changes": async () => events.changes(),
    "job.start": async ({ call, input }) => jobs.start(call, input),
    "job.list": async () => jobs.list(),
    "job.info": async ({ id }) => jobs.info(id),
    "job.cancel": async ({ id }) => jobs.cancel(id),
  };
}

export function statisticsOf(
  components: Pick<ServerControlComponents, "clock" | "history" | "connections" | "figures">,
): Statistics {
  const { clock, history, connections, figures } = components;
  const open = connections();
  return {
    atMs: clock.nowMs(),
    intervalMs: stepMs,
    ...history.latest(),
    connections: open.length,
    requestsInFlight: open.reduce((sum, one) => sum + one.requestsInFlight, 0),
    ...(figures === undefined ? {} : { store: figures() }),
  };
}
