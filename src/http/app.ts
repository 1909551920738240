// biome-ignore lint/style/noRestrictedImports: types only.
import type { Server } from "node:http";
import { type FastifyError, type FastifyInstance, type FastifyRequest, fastify } from "fastify";
import { isKelpieError, messageOf } from "../base/errors.ts";
import type { Log } from "../host/log.ts";
import { addCallRoutes, type CallComponents } from "./call-routes.ts";
import { addEventRoute, type EventComponents } from "./event-stream.ts";
import { openApiDocument } from "./openapi.ts";
import { makeProblem, type Problem, problemOf, sendProblem } from "./problem.ts";

export interface AppComponents extends CallComponents, EventComponents {
  /** Part of the document that describes the API. */
  version: string;
  /** The figures as Prometheus reads them; without them there is no /metrics. */
  metrics?: Metrics | undefined;
  /** Whether the store takes writes; throws why not. */
  ready?: (() => Promise<void>) | undefined;
}

export interface Metrics {
  readonly contentType: string;
  text(): Promise<string>;
}

/** Routes that need no token. */
export interface RouteConfig {
  open?: boolean;
}

/** Inputs are a few names and numbers; nothing anyone means is longer. */
export const bodyBytesMax = 2 ** 20;

/** What the control socket and the TCP address have in common; `server` is listened on by the caller. */
export function createApp(server: Server, components: AppComponents): FastifyInstance {
  const { log, version, metrics, ready } = components;
  const app = fastify({
    bodyLimit: bodyBytesMax,
    serverFactory: (handler) => server.on("request", handler),
  });
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    sendProblem(reply, requestProblem(error, request, log));
  });
  app.setNotFoundHandler((request, reply) => {
    const remedy = "calls are POST /v1/<name>, for example /v1/vdi.list";
    const detail = `there is no call ${request.method} ${request.url}`;
    sendProblem(reply, makeProblem(404, "not-found", detail, remedy));
  });
  addCallRoutes(app, components);
  addEventRoute(app, components);
  app.get("/v1/openapi.json", () => openApiDocument(version));
  const open = { config: { open: true } satisfies RouteConfig };
  // It answers: that is all that the first one says.
  app.get("/healthz", open, (_request, reply) => reply.type("text/plain").send("ok\n"));
  app.get("/readyz", open, async (_request, reply) => {
    await ready?.();
    return reply.type("text/plain").send("ready\n");
  });
  if (metrics !== undefined) {
    app.get("/metrics", async (_request, reply) => {
      return reply.type(metrics.contentType).send(await metrics.text());
    });
  }
  return app;
}

/** Errors of HTTP itself (a body too long, not JSON) come with their status from fastify. */
function requestProblem(error: FastifyError, request: FastifyRequest, log: Log): Problem {
  if (isKelpieError(error)) return problemOf(error);
  const status = error.statusCode;
  if (status !== undefined && status >= 400 && status < 500) {
    return makeProblem(status, "invalid", `${request.url}: ${messageOf(error)}`);
  }
  log.error("call failed", { url: request.url, error });
  return problemOf(error);
}
