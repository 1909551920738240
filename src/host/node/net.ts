import * as fs from "node:fs";
import * as net from "node:net";
import { dirname, resolve } from "node:path";
import { KelpieError, messageOf } from "../../base/errors.ts";
import type { Log } from "../log.ts";
import type { Address, Connection, Listener, Net } from "../net.ts";
import { NodeConnection } from "./connection.ts";
import { errnoOf } from "./file-errors.ts";
import { ReceiveBuffers } from "./receive-buffers.ts";
import { createTlsContext } from "./tls.ts";

export interface NodeNetComponents {
  log: Log;
}

/** TCP and Unix sockets of this machine. */
export function createNodeNet(components: NodeNetComponents): Net {
  const buffers = new ReceiveBuffers();
  return {
    connect,
    tlsContext: createTlsContext,
    listen: (address, accept) => listen(address, accept, { ...components, buffers }),
  };
}

/** sun_path holds 108 bytes with its terminating zero (unix(7)). */
const socketPathBytesMax = 107;

/** Connections that the system may hold for us until we accept them; it caps this itself. */
const backlog = 511;

/**
 * A peer whose machine has gone says nothing, ever: after this long without a word the system asks,
 * and the connection fails when there is no answer.
 */
const keepAliveAfterMs = 60_000;

const socketOptions = {
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: keepAliveAfterMs,
  allowHalfOpen: false,
};

async function listen(
  address: Address,
  accept: (connection: Connection) => void,
  { log, buffers }: NodeNetComponents & { buffers: ReceiveBuffers },
): Promise<Listener> {
  // Paused, because nothing may be read before the connection's owner has started it.
  const server = net.createServer({ ...socketOptions, pauseOnConnect: true }, (socket) => {
    accept(new NodeConnection(socket, { peer: peerOf(address, socket), buffers }));
  });
  if (address.kind === "tcp") await bind(server, address);
  else await bindUnix(server, address);
  // One connection that could not be accepted; the listener goes on.
  server.on("error", (error) => log.warn("accept failed", { address: nameOf(address), error }));
  return { address: effectiveAddress(address, server), close: () => close(server) };
}

async function connect(address: Address): Promise<Connection> {
  const socket = net.connect(
    address.kind === "tcp"
      ? { ...socketOptions, host: address.host, port: address.port }
      : { path: address.path, allowHalfOpen: false },
  );
  await new Promise<void>((resolve, reject) => {
    const failed = (error: Error): void => {
      socket.destroy();
      reject(connectError(address, error));
    };
    socket.once("error", failed);
    socket.once("connect", () => {
      socket.off("error", failed);
      resolve();
    });
  });
  return new NodeConnection(socket, { peer: peerOf(address, socket) });
}

async function bindUnix(
  server: net.Server,
  address: { kind: "unix"; path: string },
): Promise<void> {
  const path = resolve(address.path);
  if (Buffer.byteLength(path) > socketPathBytesMax) {
    throw new KelpieError(
      "invalid",
      `listen on ${path}: a socket's path has at most ${socketPathBytesMax} bytes`,
      { remedy: "choose a shorter path for the socket" },
    );
  }
  // The system says "permission denied" for this one.
  if (!fs.existsSync(dirname(path))) {
    throw new KelpieError(
      "not-found",
      `listen on ${path}: there is no directory ${dirname(path)}`,
      {
        remedy: `mkdir -p ${dirname(path)}`,
      },
    );
  }
  await removeStaleSocket(path);
  await bind(server, { kind: "unix", path });
}

/**
 * A process that was killed leaves its socket's file, and nobody can listen on that name again. If
 * a connection is refused, nobody listens. Two processes that do this to one path at the same
 * moment could take it from each other: what must not be shared has a lock of its own.
 */
async function removeStaleSocket(path: string): Promise<void> {
  let found: fs.Stats;
  try {
    found = fs.lstatSync(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return;
    throw new KelpieError("io", `listen on ${path}: ${messageOf(error)}`, { cause: error });
  }
  // Connecting to an ordinary file is refused too; that must not make us remove it.
  if (!found.isSocket()) {
    throw new KelpieError("exists", `listen on ${path}: it exists and is not a socket`, {
      remedy: "remove it, or choose another path for the socket",
    });
  }
  let connection: Connection;
  try {
    connection = await connect({ kind: "unix", path });
  } catch (error) {
    // Not there, or nobody listens: as it should be. Anything else shows when we bind.
    const errno = errnoOf(error instanceof KelpieError ? error.cause : error);
    if (errno === "ECONNREFUSED") fs.rmSync(path, { force: true });
    return;
  }
  connection.destroy();
  throw busy({ kind: "unix", path });
}

async function bind(server: net.Server, address: Address): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const failed = (error: Error): void => reject(listenError(address, error));
    server.once("error", failed);
    const where =
      address.kind === "tcp" ? { host: address.host, port: address.port } : { path: address.path };
    server.listen({ ...where, backlog }, () => {
      server.off("error", failed);
      resolve();
    });
  });
}

/**
 * The server's own callback waits for its connections, which are none of the listener's business.
 */
function close(server: net.Server): Promise<void> {
  server.close();
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function effectiveAddress(address: Address, server: net.Server): Address {
  if (address.kind === "unix") return { kind: "unix", path: resolve(address.path) };
  const bound = server.address();
  if (bound === null || typeof bound === "string") return address;
  return { kind: "tcp", host: address.host, port: bound.port };
}

function peerOf(address: Address, socket: net.Socket): string {
  if (address.kind === "unix") return "unix";
  return hostAndPort(socket.remoteAddress ?? address.host, socket.remotePort ?? 0);
}

function nameOf(address: Address): string {
  return address.kind === "unix" ? address.path : hostAndPort(address.host, address.port);
}

function hostAndPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function busy(address: Address, cause?: unknown): KelpieError {
  return new KelpieError("busy", `listen on ${nameOf(address)}: somebody listens there already`, {
    cause,
  });
}

function listenError(address: Address, cause: Error): KelpieError {
  const errno = errnoOf(cause);
  if (errno === "EADDRINUSE") return busy(address, cause);
  // The address is not one of this machine, or not an address.
  const invalid = errno === "EADDRNOTAVAIL" || errno === "ENOTFOUND";
  const code = invalid ? "invalid" : "io";
  return new KelpieError(code, `listen on ${nameOf(address)}: ${cause.message}`, { cause });
}

/** Nobody is there, or there is no way to tell: the first lets a command do its work by itself. */
function connectError(address: Address, cause: Error): KelpieError {
  const errno = errnoOf(cause) ?? "";
  const nobody = ["ECONNREFUSED", "ENOENT", "ENOTFOUND"].includes(errno);
  const reason = errno === "ECONNREFUSED" ? "nobody listens there" : messageOf(cause);
  return new KelpieError(
    nobody ? "not-found" : "io",
    `connect to ${nameOf(address)}: ${reason || errno}`,
    { cause },
  );
}
