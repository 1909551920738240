// biome-ignore lint/style/noRestrictedImports: the HTTP library opens its socket itself, by path.
import { chmodSync, mkdirSync, renameSync, rmSync } from "node:fs";
// biome-ignore lint/style/noRestrictedImports: fastify stands on it.
import { createServer, type Server } from "node:http";
import { dirname, join, resolve } from "node:path";
import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import { type AppComponents, createApp } from "./app.ts";
import { shortSocketPath } from "./socket-path.ts";

export interface ControlServerSettings {
  /** `<store>/control.sock`. Whatever socket is there is replaced: the store's lock is ours. */
  socketPath: string;
}

export type ControlServerComponents = Omit<AppComponents, "stop">;

export interface ControlServer {
  /** Takes no more calls, stops those of kind "work", waits for the others, removes the socket. */
  close(): Promise<void>;
}

/** Each is a command that somebody typed or a script runs; more at once is a mistake. */
const connectionsMax = 256;

/** A request is one small line: a client that takes longer to send it is stuck. */
const requestTimeoutMs = 30_000;

/** The control socket: the API over a Unix socket that only its owner may open. */
export async function openControlServer(
  settings: ControlServerSettings,
  components: ControlServerComponents,
): Promise<ControlServer> {
  const stop = new AbortController();
  const server = createServer({ requestTimeout: requestTimeoutMs });
  server.maxConnections = connectionsMax;
  const app = createApp(server, { ...components, stop: stop.signal });
  // One call a connection: nothing is idle, and closing is waiting for what is in flight.
  app.addHook("onRequest", async (_request, reply) => {
    reply.header("connection", "close");
  });
  await app.ready();
  const socketPath = resolve(settings.socketPath);
  await listenPrivately(server, socketPath);
  server.on("error", (error) => components.log.warn("control socket", { error }));
  return {
    async close() {
      rmSync(socketPath, { force: true });
      const closed = new Promise((done) => {
        server.close(done);
      });
      stop.abort(new KelpieError("closed", "the server is shutting down"));
      await closed;
      await app.close();
    },
  };
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
