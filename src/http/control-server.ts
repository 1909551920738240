// biome-ignore lint/style/noRestrictedImports: the HTTP library opens its socket itself, by path.
import { chmodSync, mkdirSync, renameSync, rmSync } from "node:fs";
// biome-ignore lint/style/noRestrictedImports: fastify stands on it.
import { createServer, type Server } from "node:http";
import { dirname, join, resolve } from "node:path";
import {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
} from "fastify";
import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import {
  type CallContext,
  type CallInput,
  type CallName,
  type CallOutput,
  type Control,
  calls,
} from "../control/calls.ts";
import type { Log } from "../host/log.ts";
import { makeProblem, type Problem, problemOf, problemType } from "./problem.ts";
import { shortSocketPath } from "./socket-path.ts";

export interface ControlServerSettings {
  /** `<store>/control.sock`. Whatever socket is there is replaced: the store's lock is ours. */
  socketPath: string;
}

export interface ControlServerComponents {
  control: Control;
  log: Log;
}

export interface ControlServer {
  /** Takes no more calls, stops those of kind "work", waits for the others, removes the socket. */
  close(): Promise<void>;
}

/**
 * The control socket: HTTP over a Unix socket that only its owner may open. `POST /v1/<call>` with
 * the call's input as JSON answers its output, or a problem document. A call of kind "work" asked
 * for with `Accept: application/x-ndjson` answers lines: any number of `{"progress":…}`, then one
 * `{"result":…}` or `{"error":…}`; it is given up when its client goes away.
 */
export async function openControlServer(
  settings: ControlServerSettings,
  components: ControlServerComponents,
): Promise<ControlServer> {
  const stop = new AbortController();
  const app = createApp(components, stop.signal);
  await app.ready();
  const socketPath = resolve(settings.socketPath);
  await listenPrivately(app.server, socketPath);
  app.server.on("error", (error) => components.log.warn("control socket", { error }));
  return {
    async close() {
      rmSync(socketPath, { force: true });
      const closed = new Promise((done) => {
        app.server.close(done);
      });
      stop.abort(new KelpieError("closed", "the server is shutting down"));
      await closed;
      await app.close();
    },
  };
}

/** Inputs are a few names and numbers; nothing anyone means is longer. */
export const bodyBytesMax = 2 ** 20;

/** Each is a command that somebody typed or a script runs; more at once is a mistake. */
const connectionsMax = 256;

/** A request is one small line: a client that takes longer to send it is stuck. */
const requestTimeoutMs = 30_000;

const lines = "application/x-ndjson";

function createApp(components: ControlServerComponents, stop: AbortSignal): FastifyInstance {
  const app = fastify({
    bodyLimit: bodyBytesMax,
    serverFactory: (handler) => {
      const server = createServer({ requestTimeout: requestTimeoutMs }, handler);
      server.maxConnections = connectionsMax;
      return server;
    },
  });
  // One call a connection: nothing is idle, and closing is waiting for what is in flight.
  app.addHook("onSend", async (_request, reply) => {
    reply.header("connection", "close");
  });
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    sendProblem(reply, requestProblem(error, request, components.log));
  });
  app.setNotFoundHandler((request, reply) => {
    const remedy = "calls are POST /v1/<name>, for example /v1/vdi.list";
    const detail = `there is no call ${request.method} ${request.url}`;
    sendProblem(reply, makeProblem(404, "not-found", detail, remedy));
  });
  for (const name of Object.keys(calls) as CallName[]) {
    app.post(`/v1/${name}`, (request, reply) => answer(name, request, reply, components, stop));
  }
  return app;
}

async function answer(
  name: CallName,
  request: FastifyRequest,
  reply: FastifyReply,
  components: ControlServerComponents,
  stop: AbortSignal,
): Promise<void> {
  stop.throwIfAborted();
  const input = parseInput(name, request.body);
  if (calls[name].kind !== "work") {
    // Once begun it is finished, whoever listens: a change has no half-way.
    reply.send(await components.control.call(name, input));
    return;
  }
  const gone = new AbortController();
  reply.raw.once("close", () => {
    gone.abort(new KelpieError("closed", `${name}: the client went away`));
  });
  const signal = AbortSignal.any([gone.signal, stop]);
  if (!(request.headers.accept ?? "").includes(lines)) {
    reply.send(await components.control.call(name, input, { signal }));
    return;
  }
  reply.hijack();
  await stream(reply, components.log, (progress) =>
    components.control.call(name, input, { signal, progress }),
  );
}

async function stream(
  reply: FastifyReply,
  log: Log,
  work: (progress: NonNullable<CallContext["progress"]>) => Promise<CallOutput<CallName>>,
): Promise<void> {
  const out = reply.raw;
  out.writeHead(200, { "content-type": lines, connection: "close" });
  const say = (line: unknown): void => {
    if (!out.destroyed) out.write(`${JSON.stringify(line)}\n`);
  };
  try {
    const result = await work((progress) => {
      // A client that does not read misses some progress; it must not cost us memory.
      if (!out.writableNeedDrain) say({ progress });
    });
    say({ result });
  } catch (error) {
    if (!isKelpieError(error)) log.error("call failed", { error });
    say({ error: problemOf(error) });
  }
  out.end();
}

function parseInput<N extends CallName>(name: N, body: unknown): CallInput<N> {
  const parsed = calls[name].input.safeParse(body ?? {});
  if (parsed.success) return parsed.data as CallInput<N>;
  const issue = parsed.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")}: `;
  throw new KelpieError("invalid", `${name}: ${where}${issue?.message ?? "not a valid input"}`);
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

function sendProblem(reply: FastifyReply, document: Problem): void {
  reply.code(document.status).type(problemType).send(JSON.stringify(document));
}

/**
 * Binds in a directory that only we may enter, restricts the socket, and moves it to its name: at
 * no time could anybody else have opened it, and the name never leads to nothing. (The umask would
 * do too, but it is the whole process's, and threads that create the store's files share it.)
 */
async function listenPrivately(server: Server, socketPath: string): Promise<void> {
  const directory = join(dirname(socketPath), "control.tmp");
  try {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { mode: 0o700 });
    const unnamed = join(directory, "s");
    const short = shortSocketPath(unnamed);
    try {
      await listen(server, short.path);
    } finally {
      short.close();
    }
    chmodSync(unnamed, 0o600);
    renameSync(unnamed, socketPath);
  } catch (error) {
    server.close();
    if (isKelpieError(error)) throw error;
    throw new KelpieError("io", `control socket ${socketPath}: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((done, fail) => {
    server.once("error", fail);
    server.listen(path, () => {
      server.off("error", fail);
      done();
    });
  });
}
