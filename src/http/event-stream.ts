// biome-ignore lint/style/noRestrictedImports: types only.
import type { ServerResponse } from "node:http";
import type { FastifyInstance } from "fastify";
import { KelpieError } from "../base/errors.ts";
import type { ServerEvents } from "../control/server-events.ts";
import type { ServerEvent } from "../control/server-shapes.ts";
import type { Timers } from "../host/timers.ts";

export interface EventComponents {
  /** Without them there is nothing to listen to. */
  events?: ServerEvents | undefined;
  timers: Timers;
  stop: AbortSignal;
}

/** Each is an open page or a script; more is a mistake. */
export const listenersMax = 64;
/** What a listener may be behind before it is cut off. It comes back, and asks for what it missed. */
export const behindBytesMax = 256 * 1024;
/** Middle boxes close what is silent, and a peer that is gone shows only when it is written to. */
const heartbeatMs = 15_000;

/**
 * `GET /v1/events`: server-sent events, each with a `ServerEvent` as JSON and its kind as the event's name.
 * Changes have ids; one that comes back with `Last-Event-ID` gets those it missed, as far as they are kept.
 */
export function addEventRoute(app: FastifyInstance, components: EventComponents): void {
  const { events, timers, stop } = components;
  if (events === undefined) return;
  let listeners = 0;
  app.get("/v1/events", (request, reply) => {
    stop.throwIfAborted();
    if (listeners >= listenersMax) {
      throw new KelpieError("busy", `${listenersMax} clients listen to events already`);
    }
    reply.hijack();
    const out = reply.raw;
    listeners++;
    out.once("close", () => {
      listeners--;
    });
    out.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      "content-type": "text/event-stream",
      "cache-control": "no-store",
    });
    const after = Number(request.headers["last-event-id"] ?? Number.NaN);
    listen(out, { events, timers, stop, after: Number.isSafeInteger(after) ? after : undefined });
  });
}

interface Listening {
  events: ServerEvents;
  timers: Timers;
  stop: AbortSignal;
  after: number | undefined;
}

function listen(out: ServerResponse, { events, timers, stop, after }: Listening): void {
  const say = (text: string): void => {
    // A listener that does not read must not cost us memory.
    if (out.writableLength > behindBytesMax) out.destroy();
    else out.write(text);
  };
  say("retry: 1000\n\n");
  if (after !== undefined) for (const change of events.changes(after)) say(textOf(change));
  const end = events.listen((event) => {
    // Of figures there are newer ones in a moment.
    if (event.kind === "statistics" && out.writableNeedDrain) return;
    say(textOf(event));
  });
  let beat = timers.after(heartbeatMs, function again() {
    say(": \n\n");
    beat = timers.after(heartbeatMs, again);
  });
  const finish = () => out.end();
  stop.addEventListener("abort", finish, { once: true });
  out.once("close", () => {
    end();
    beat.cancel();
    stop.removeEventListener("abort", finish);
  });
}

export function textOf(event: ServerEvent): string {
  const id = event.kind === "change" ? `id: ${event.number}\n` : "";
  return `${id}event: ${event.kind}\ndata: ${JSON.stringify(event)}\n\n`;
}
