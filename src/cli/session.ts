import { resolve } from "node:path";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { OpenExport } from "../block/exports.ts";
import type { CallContext, CallOutput, Control } from "../control/calls.ts";
import type { Address } from "../host/net.ts";
import { connectControl, type RunningServer } from "../http/control-client.ts";
import { shortSocketPath } from "../http/socket-path.ts";
import { connectNbd } from "../nbd/client.ts";
import { type NbdUri, parseNbdUri } from "../nbd/uri.ts";
import { type ClusterStore, clusterStoreOf, openCluster } from "./cluster-store.ts";
import type { CliContext, LocalStore, S3Options } from "./context.ts";
import { isS3Url, s3Directory } from "./s3-place.ts";
import { splitName } from "./snapshot-name.ts";
import { printable } from "./text.ts";
import { clientTls } from "./tls-credentials.ts";

/** What a command works with: a running server, or a store opened for this one command. */
export interface Session {
  readonly control: Control;
  /** The server that answers, if one does. */
  readonly server: CallOutput<"server.info"> | undefined;
  /** `NAME`, `NAME@TAG` or `NAME@#ID`. The caller closes it. */
  openDevice(exportName: string): Promise<OpenExport>;
  close(): Promise<void>;
}

export interface SessionSettings {
  /** As given with --store, or undefined. */
  store: string | undefined;
  /** Of a store in an object store: the directory on this machine, as given with --local. */
  local?: string | undefined;
  s3?: S3Options;
  /** Make a store if there is none. */
  create: boolean;
  /** Open it even where data is gone that had been synced. */
  acceptDamage?: boolean;
}

/** Finds the running server of a store by its control socket; without one opens the store itself. */
export async function openSession(
  context: CliContext,
  settings: SessionSettings,
): Promise<Session> {
  const cluster = clusterStoreOf(context, settings.store);
  if (cluster !== undefined) return await openClusterSession(context, cluster);
  const store = storeDirectory(context, settings.store, settings.local);
  const url = s3UrlOf(context, settings.store) ?? store;
  await refuseFile(context, store);
  const deadlineMs = context.host.clock.monotonicMs() + busyWaitMs;
  for (;;) {
    const running = await connectControl(controlSocket(store));
    if (running !== undefined) return remoteSession(context, running);
    try {
      const { create, acceptDamage = false } = settings;
      const { s3 = {} } = settings;
      const options = { host: context.host, create, acceptDamage, directory: store, s3 };
      const missing = create && !(await hasStore(context, store));
      const local = await context.openLocal(url, options);
      // A disk in a store that nobody looks into is as good as lost.
      if (missing && (await hasStore(context, store))) {
        await context.stderr.write(`kelpie: made a new store in ${printable(store)}\n`);
      }
      return localSession(context, local);
    } catch (error) {
      if (!isKelpieError(error, "busy")) throw error;
      // A server that is starting has the lock before it has the socket, and another command is done soon.
      const late = context.host.clock.monotonicMs() >= deadlineMs;
      if (late || context.signal.aborted) throw heldByOther(store, error);
      await context.host.timers.sleep(busyRetryMs);
    }
  }
}

/** A gateway knows who has what open, and is asked if there is one. */
async function openClusterSession(context: CliContext, cluster: ClusterStore): Promise<Session> {
  const { directory } = cluster;
  const running =
    directory === undefined ? undefined : await connectControl(controlSocket(directory));
  if (running !== undefined) return remoteSession(context, running);
  return localSession(context, await openCluster(context, cluster));
}

/** The object store that --store or $KELPIE_STORE names; undefined if it names something else. */
export function s3UrlOf(context: CliContext, option: string | undefined): string | undefined {
  const store = option ?? context.env.KELPIE_STORE;
  return store !== undefined && isS3Url(store) ? store.replace(/\/+$/, "") : undefined;
}

/**
 * The directory a command line means: the store, or what this machine keeps of one in an object store.
 * Fails with "unsupported" for what is neither.
 */
export function storeDirectory(
  context: CliContext,
  option: string | undefined,
  local?: string,
): string {
  const url = s3UrlOf(context, option);
  if (url !== undefined) return s3Directory(context, url, local);
  const store = option ?? (context.env.KELPIE_STORE || defaultStore);
  if (store === "") {
    throw new KelpieError("invalid", "the store is empty", { remedy: "give --store a directory" });
  }
  const scheme = /^([a-z0-9+]+):\/\//.exec(store)?.[1];
  if (scheme !== undefined) {
    throw new KelpieError(
      "unsupported",
      `store ${store}: stores are directories, s3://bucket/prefix, or sheepdog://host:port`,
    );
  }
  return resolve(store);
}

/** Before anything looks for sockets and locks below it. */
export async function refuseFile(context: CliContext, store: string): Promise<void> {
  // What is not there may be made; what cannot be looked at is reported by who opens it.
  const stat = await context.host.files.stat(store).catch(() => undefined);
  if (stat === undefined || stat.kind === "directory") return;
  throw new KelpieError("invalid", `store ${store}: it is a file, not a directory`);
}

export const defaultStore = "kelpie-data";

export function controlSocket(store: string): string {
  return `${store}/control.sock`;
}

export function nbdSocket(store: string): string {
  return `${store}/nbd.sock`;
}

/** Who can read it may use the API over TCP. */
export function tokenFile(store: string): string {
  return `${store}/token`;
}

/** As `sheep` calls its own. */
export function sheepdogSocket(store: string): string {
  return `${store}/sock`;
}

/** How an export of a point is called: snapshots by id are "NAME@#3", because a tag may be digits. */
export function exportNameOf(name: string, snapshot: string | undefined): string {
  if (snapshot === undefined) return name;
  return /^\d+$/.test(snapshot) ? `${name}@#${snapshot}` : `${name}@${snapshot}`;
}

async function hasStore(context: CliContext, store: string): Promise<boolean> {
  return await context.host.files.stat(`${store}/store`).then(
    () => true,
    () => false,
  );
}

/** How long a store that is held by somebody else is tried again. */
const busyWaitMs = 3000;
const busyRetryMs = 100;

function localSession(context: CliContext, store: LocalStore): Session {
  return {
    control: interruptible(store.control, context.signal),
    server: undefined,
    openDevice: (name) => {
      return store.exports.open(name, { protocol: "control", peer: `pid ${context.pid}` });
    },
    close: () => store.close(),
  };
}

function remoteSession(context: CliContext, running: RunningServer): Session {
  return {
    control: interruptible(running.control, context.signal),
    server: running.info,
    openDevice: (name) => openRemote(context, running, name),
    async close() {},
  };
}

/** Every call ends when the command is interrupted. */
function interruptible(control: Control, signal: AbortSignal): Control {
  return {
    call: (name, input, callContext?: CallContext) =>
      control.call(name, input, { signal, ...callContext }),
  };
}

/** Data goes over NBD: the control socket is for questions. */
async function openRemote(
  context: CliContext,
  running: RunningServer,
  exportName: string,
): Promise<OpenExport> {
  const uris = [...running.info.nbd].sort((a, b) => Number(isUnix(b)) - Number(isUnix(a)));
  let failure: unknown;
  for (const uri of uris) {
    try {
      return await openNbd(context, { ...parseNbdUri(uri), exportName });
    } catch (error) {
      if (isKelpieError(error, "not-found") && !isConnectError(error)) {
        await askWhy(running.control, exportName);
        throw error;
      }
      failure = error;
    }
  }
  throw new KelpieError("io", `the server has no NBD address that answers (${uris.join(", ")})`, {
    cause: failure,
    remedy: "start it without --nbd off",
  });
}

/** Fails in the words of other commands, with their remedy, which NBD has no room for. */
async function askWhy(control: Control, exportName: string): Promise<void> {
  const parts = splitName(exportName);
  const point = parts ?? { name: exportName };
  await control.call("vdi.info", point);
}

async function openNbd(
  context: CliContext,
  { address, exportName, tls: secure }: NbdUri,
): Promise<OpenExport> {
  const { net, timers } = context.host;
  const tls = secure === undefined ? undefined : await clientTls(context, address, secure);
  const short = address.kind === "unix" ? shortSocketPath(address.path) : undefined;
  try {
    const reachable: Address = short === undefined ? address : { kind: "unix", path: short.path };
    const device = await connectNbd({ address: reachable, exportName, tls }, { net, timers });
    return { name: exportName, description: "", device, close: () => device.close() };
  } finally {
    short?.close();
  }
}

function isUnix(uri: string): boolean {
  return uri.startsWith("nbd+unix:");
}

/** `Net.connect` says "not-found" too, when nobody listens; it has the system's error as its cause. */
function isConnectError(error: KelpieError): boolean {
  return error.cause !== undefined;
}

function heldByOther(store: string, cause: KelpieError): KelpieError {
  return new KelpieError("busy", `store ${store} is in use: ${cause.message}`, {
    cause,
    remedy: cause.remedy ?? `fuser -v ${store}/lock says who has it`,
  });
}
