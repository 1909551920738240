// biome-ignore lint/style/noRestrictedImports: fastify stands on it.
import { createServer, type Server } from "node:http";
import type { FastifyInstance } from "fastify";
import { KelpieError, messageOf } from "../base/errors.ts";
import { Access, unauthorized } from "./access.ts";
import { type AppComponents, createApp, type RouteConfig } from "./app.ts";
import { addConsole, type ConsoleFiles } from "./console.ts";
import { OpenSockets } from "./open-sockets.ts";
import { sendProblem } from "./problem.ts";

export interface TcpServerSettings {
  host: string;
  port: number;
  token: string;
  /** Connections beyond this many are closed at once. */
  connectionsMax?: number;
  /** How long a request's headers may take; a connection that sends nothing is closed after it. */
  headersMs?: number;
  /** How long a peer may take nothing of an answer that is there. */
  stalledMs?: number;
}

export interface TcpServerComponents extends Omit<AppComponents, "stop"> {
  /** The page, if it was built. */
  console?: ConsoleFiles | undefined;
}

export interface TcpServer {
  /** "http://127.0.0.1:7080" */
  readonly url: string;
  /** Takes no more requests, waits for those that were begun, closes every connection. */
  close(): Promise<void>;
}

/** Pages, scripts, a scraper or two. Each costs some kilobytes. */
const connectionsMax = 512;
const headersMs = 10_000;
const stalledMs = 60_000;
/** How often Node looks whether one of these times is over. */
const checkMs = 1000;

/** The API, metrics and the console on a TCP address. "busy" if it is taken. */
export async function openTcpServer(
  settings: TcpServerSettings,
  components: TcpServerComponents,
): Promise<TcpServer> {
  const stop = new AbortController();
  const limitMs = settings.headersMs ?? headersMs;
  const server = createServer({
    headersTimeout: limitMs,
    requestTimeout: Math.max(limitMs, 30_000),
    keepAliveTimeout: 5000,
    connectionsCheckingInterval: Math.min(checkMs, limitMs),
  });
  server.maxConnections = settings.connectionsMax ?? connectionsMax;
  server.timeout = settings.stalledMs ?? stalledMs;
  // Who waits for long work is silent too: only who does not take its answer is cut off.
  server.on("timeout", (socket) => {
    if (socket.writableLength > 0) socket.destroy();
  });
  const sockets = new OpenSockets(server);
  const app = createApp(server, { ...components, stop: stop.signal });
  const access = new Access(settings);
  let cookieName = "kelpie";
  guard(app, access, () => cookieName);
  addConsole(app, components.console);
  await app.ready();
  const port = await listen(server, settings);
  // Cookies do not tell ports apart.
  cookieName = `kelpie-${port}`;
  server.on("error", (error) => components.log.warn("http", { error }));
  const host = settings.host.includes(":") ? `[${settings.host}]` : settings.host;
  return {
    url: `http://${host}:${port}`,
    async close() {
      const closed = new Promise((done) => {
        server.close(done);
      });
      stop.abort(new KelpieError("closed", "the server is shutting down"));
      sockets.close();
      await closed;
      await app.close();
    },
  };
}

function guard(app: FastifyInstance, access: Access, cookieName: () => string): void {
  app.addHook("onRequest", async (request, reply) => {
    const { open = false } = (request.routeOptions.config ?? {}) as RouteConfig;
    reply.headers(securityHeaders);
    const refusal = access.refuseSender(request.headers, open && request.method === "GET");
    if (refusal !== undefined) {
      sendProblem(reply, refusal);
      return reply;
    }
    if (open || access.isAllowed(request.headers, cookieName())) return;
    reply.header("www-authenticate", 'Bearer realm="kelpie"');
    sendProblem(reply, unauthorized());
    return reply;
  });
  app.post("/v1/session", (request, reply) => {
    if (!access.hasToken(request.headers)) return sendProblem(reply, unauthorized());
    reply.header("set-cookie", access.cookie(cookieName())).code(204).send();
  });
  app.delete("/v1/session", (_request, reply) => {
    reply.header("set-cookie", access.noCookie(cookieName())).code(204).send();
  });
}

/** Of every answer. The page has a policy of its own. */
const securityHeaders = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-store",
};

function listen(server: Server, { host, port }: TcpServerSettings): Promise<number> {
  return new Promise((done, fail) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      const code = error.code === "EADDRINUSE" ? "busy" : "io";
      fail(new KelpieError(code, `${host}:${port}: ${messageOf(error)}`, { cause: error }));
    };
    server.once("error", failed);
    server.listen({ host, port }, () => {
      server.off("error", failed);
      const address = server.address();
      done(typeof address === "object" && address !== null ? address.port : port);
    });
  });
}
