import { type Command, Option } from "commander";
import { parseDuration } from "../base/durations.ts";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Control } from "../control/calls.ts";
import type { LogLevel } from "../host/log.ts";
import type { Address } from "../host/net.ts";
import { connectControl } from "../http/control-client.ts";
import type { ControlServer, ControlServerComponents } from "../http/control-server.ts";
import { shortSocketPath } from "../http/socket-path.ts";
import { createNbdServer } from "../nbd/server.ts";
import { formatNbdUri } from "../nbd/uri.ts";
import { formatAddress } from "./addresses.ts";
import { banner } from "./banner.ts";
import { clusterStoreOf, openGateway, socketDirectory } from "./cluster-store.ts";
import type { Cli, GlobalOptions } from "./command.ts";
import type { CliContext, LocalStore, OpenLocalOptions } from "./context.ts";
import { s3OptionsOf } from "./s3-place.ts";
import { type Doors, openDoors } from "./serve-doors.ts";
import { listenHttp } from "./serve-http.ts";
import {
  httpListeners,
  nbdListeners,
  parseKeepDiscarded,
  refuseS3Options,
  s3ServeOptions,
  sheepdogListeners,
  type WantedListener,
} from "./serve-options.ts";
import { listenSheepdog } from "./serve-sheepdog.ts";
import type { TlsFlags } from "./serve-tls.ts";
import { nbdConnection, ServerWatch } from "./serve-watch.ts";
import { controlSocket, refuseFile, s3UrlOf, storeDirectory } from "./session.ts";

interface ServeOptions extends GlobalOptions, TlsFlags {
  access?: string;
  sheepdogTls?: boolean;
  maxConnections?: string;
  nbd?: string[];
  http?: string[];
  sheepdog?: string[];
  lock?: boolean;
  allowAdmin?: boolean;
  insecure?: boolean;
  keepDiscarded?: string;
  logLevel?: LogLevel;
  logSlow?: string;
  cacheSize?: string;
  takeOver?: boolean;
  acceptLoss?: boolean;
}

export function addServe(program: Command, cli: Cli): void {
  program
    .command("serve")
    .summary("serve the store's disks over NBD and to Sheepdog's clients")
    .description(
      `Serves the store's disks until Ctrl-C, and makes the store if there is none: over NBD, and to
Sheepdog's clients, QEMU up to 6.0 and dog. Other kelpie commands on the same store ask this server.
The console is a page for browsers: the URL that is printed lets one in, as does the file "token" of the
store. ADDR is host:port, unix:PATH or off. Without NBD commands cannot read or write the disks' data, but
snapshots, rollback and questions still work.

TLS is required on TCP addresses only: a Unix socket has an owner and a mode, and offers it. SIGHUP
has the certificates read again.`,
    )
    .option(
      "--nbd <addr>",
      "listen here, not on 127.0.0.1:10809 and <store>/nbd.sock; may be repeated",
      collect,
    )
    .option(
      "--sheepdog <addr>",
      "listen here, not on 127.0.0.1:7000 and <store>/sock; may be repeated",
      collect,
    )
    .option(
      "--http <addr>",
      "listen here, not on 127.0.0.1:7080, for the console, the API and metrics; may be repeated",
      collect,
    )
    .option("--lock", "a disk that a Sheepdog client has opened is refused to others, over NBD too")
    .option("--allow-admin", "let dog format a store with disks in it, and shut the server down")
    .option("--tls-dir <dir>", "certificates for TLS over NBD, as kelpie tls init makes them")
    .option("--tls <mode>", "off, offered or required; required by default with --tls-dir")
    .option("--tls-verify-peer", "refuse clients without a certificate of the authority's")
    .option("--access <file>", "who may open which disk over NBD; Sheepdog is off unless asked for")
    .option("--sheepdog-tls", "speak Sheepdog's protocol inside TLS on TCP addresses")
    .option(
      "--max-connections <n,per-address>",
      "connections of all doors together, and from one address; else 512,256",
    )
    .option("--insecure", "allow addresses that other machines can reach")
    .option(
      "--keep-discarded <time,share>",
      "how long, and in what share of the file system, discarded disks are kept; else 1h,10%",
    )
    .addOption(
      new Option(
        "--log-level <level>",
        "what is logged, to standard error, as lines of JSON; else warn",
      ).choices(["debug", "info", "warn", "error", "silent"]),
    )
    .option("--log-slow <time>", "log every request that takes longer, such as 100ms")
    .option("--cache-size <size>", "of s3://bucket/prefix: what may be kept here; else 10G")
    .option(
      "--take-over",
      "of s3://bucket/prefix: have it, though a gateway that is gone for good has not closed it",
    )
    .option("--accept-loss", "the same: delete snapshots of which not all had been sent")
    .addHelpText(
      "after",
      `
Examples:
  kelpie serve
  kelpie serve --store s3://bucket/disks --s3-endpoint http://127.0.0.1:7480
  kelpie serve --store /srv/disks --nbd unix:/run/kelpie.sock --nbd 127.0.0.1:10809
  kelpie serve --store sheepdog://10.0.0.7:7000   disks of a Sheepdog cluster, over NBD
  kelpie serve --nbd 192.168.0.5:10809 --tls-dir /etc/kelpie/tls --tls-verify-peer
  kelpie serve --nbd off --sheepdog 192.168.0.5:7000 --insecure
  kelpie serve --keep-discarded 7d,25%
  kelpie serve --keep-discarded 0              nothing can be brought back`,
    )
    .action((_options: object, command: Command) => {
      const options = command.optsWithGlobals<ServeOptions>();
      return cli.run(() => serve(cli.context, options));
    });
}

/** The composition root: opens everything in order, waits for a signal, closes in reverse. */
async function serve(context: CliContext, options: ServeOptions): Promise<number> {
  const cluster = clusterStoreOf(context, options.store);
  // Of a cluster, what is in this directory are sockets.
  const store =
    cluster === undefined
      ? storeDirectory(context, options.store, options.local)
      : await socketDirectory(context, cluster);
  await refuseFile(context, store);
  const doors = await openDoors(context, options);
  const { tls } = doors;
  const listening = { store, insecure: options.insecure === true };
  const wanted = nbdListeners(options.nbd, { ...listening, guarded: doors.nbdIsGuarded });
  const wantedSheepdog =
    doors.access !== undefined && options.sheepdog === undefined
      ? [] // whoever reaches it can open every disk
      : sheepdogListeners(options.sheepdog, { ...listening, guarded: doors.sheepdogIsGuarded });
  const wantedHttp = httpListeners(options.http, listening);
  const keepDiscarded =
    options.keepDiscarded === undefined
      ? {}
      : { keepDiscarded: parseKeepDiscarded(options.keepDiscarded) };
  const url = s3UrlOf(context, options.store);
  if (url === undefined) refuseS3Options(options);
  const keep = {
    ...keepDiscarded,
    lock: options.lock === true,
    directory: store,
    s3: { ...s3OptionsOf(options), ...s3ServeOptions(options) },
  };
  const slowMs = options.logSlow === undefined ? undefined : parseDuration(options.logSlow);
  if (options.logLevel !== undefined) context.host.log.level = options.logLevel;
  const startedMs = context.host.clock.nowMs();
  const local =
    cluster === undefined
      ? await openStore(context, url ?? store, keep)
      : await openGateway(context, cluster, keep);
  const open: Closable[] = [local];
  const stop = new AbortController();
  const forget = doors.reloads ? context.onHangup?.(() => void doors.reload()) : undefined;
  try {
    const watch = new ServerWatch(context, { store: local, slowMs });
    open.push(watch);
    const listeners = await listenNbd(context, { watch, doors }, wanted);
    open.push(...listeners);
    const settings = { wanted: wantedSheepdog, allowAdmin: options.allowAdmin === true };
    const sheepdog = await listenSheepdog(context, local, { ...settings, stop, doors, watch });
    if (sheepdog !== undefined) open.push(sheepdog);
    const nbd = listeners.map(({ address }) =>
      formatNbdUri({ address, exportName: "", ...tls?.uriAt(address) }),
    );
    // QEMUs that were started without certificates.
    const plain = listeners.filter(({ address }) => tls?.requiredAt(address) !== true);
    local.vms?.serve(plain.map(({ address }) => address));
    const served = cluster?.url ?? url ?? store;
    const process = { version: context.version, pid: context.pid, startedMs };
    const addresses = sheepdog?.addresses ?? [];
    const where = { nbd, sheepdog: addresses.map(formatAddress), http: [] as string[] };
    const info = { ...process, store: served, ...where };
    const components = await apiComponents(context, watch, watch.control(info));
    const http = await listenHttp(context, store, { wanted: wantedHttp, components });
    open.push(http);
    info.http.push(...http.urls);
    open.push(await listenControl(store, components));
    const shown = {
      info,
      addresses: listeners.map(({ address }) => ({ address, ...tls?.uriAt(address) })),
      sheepdog: addresses,
      http,
    };
    await context.stdout.write(
      options.json === true
        ? `${JSON.stringify({ ...info, control: controlSocket(store) })}\n`
        : banner(shown, {
            store: options.store,
            env: context.env,
            isTerminal: context.stdout.isTerminal,
          }),
    );
    await aborted(AbortSignal.any([context.signal, stop.signal]));
  } finally {
    forget?.();
    local.endWaits?.();
    // The control socket first, the store last: nobody may ask for what is closing.
    await closeAll(open.reverse());
  }
  return 0;
}

interface Closable {
  close(): Promise<void>;
}

interface NbdListener extends Closable {
  address: Address;
}

/** The lock decides who serves a store; the control socket says who that is. */
async function openStore(
  context: CliContext,
  store: string,
  keep: Omit<OpenLocalOptions, "host" | "create"> & { directory: string },
): Promise<LocalStore> {
  try {
    return await context.openLocal(store, { host: context.host, create: true, ...keep });
  } catch (error) {
    if (!isKelpieError(error, "busy")) throw error;
    const running = await connectControl(controlSocket(keep.directory)).catch(() => undefined);
    if (running === undefined) throw error;
    const { pid, nbd } = running.info;
    throw new KelpieError("busy", `store ${store}: a server has it open, pid ${pid}`, {
      cause: error,
      remedy: `it listens on ${nbd.join(" and ") || "no NBD address"}; kill ${pid} stops it`,
    });
  }
}

interface Served {
  watch: ServerWatch;
  doors: Doors;
}

async function listenNbd(
  context: CliContext,
  served: Served,
  wanted: readonly WantedListener[],
): Promise<NbdListener[]> {
  const listeners: NbdListener[] = [];
  try {
    for (const { address, required } of wanted) {
      try {
        listeners.push(await listenOn(context, served, address));
      } catch (error) {
        if (required || !isKelpieError(error, "busy")) throw error;
        const text = `kelpie: ${formatAddress(address)} is taken: not listening there\n`;
        await context.stderr.write(text);
      }
    }
  } catch (error) {
    await closeAll(listeners);
    throw error;
  }
  return listeners;
}

async function listenOn(
  context: CliContext,
  { watch, doors }: Served,
  address: Address,
): Promise<NbdListener> {
  const { net, timers, log } = context.host;
  const { exports } = watch;
  const short = address.kind === "unix" ? shortSocketPath(address.path) : undefined;
  const bound: Address = short === undefined ? address : { kind: "unix", path: short.path };
  try {
    const server = await createNbdServer(
      { addresses: [bound], tls: doors.tls?.at(address) },
      {
        net,
        timers,
        log,
        exports: doors.access?.restrict(exports) ?? exports,
        connections: doors.connections,
        budget: doors.budget,
      },
    );
    watch.addConnections(() => server.connections().map(nbdConnection));
    return {
      // Under the name people know, and with the port that 0 became.
      address: address.kind === "unix" ? address : (server.addresses[0] ?? address),
      async close() {
        await server.close();
        short?.close(); // The socket's file is removed by this name.
      },
    };
  } catch (error) {
    short?.close();
    throw error;
  }
}

/** What is the same whichever way the API is reached. */
async function apiComponents(
  { version, host: { log, timers } }: CliContext,
  watch: ServerWatch,
  control: Control,
): Promise<ControlServerComponents> {
  // Loaded here, because no other command needs it.
  const { createMetrics } = await import("../http/metrics.ts");
  const { events, meters, connections, jobs, figures } = watch;
  const metrics = createMetrics({ version, meters, connections, jobs, figures });
  const ready = async () => {
    if (figures === undefined) return;
    const { state } = await control.call("store.info", {});
    if (state !== "full") return;
    throw new KelpieError("no-space", "the store is full", { remedy: "delete disks or snapshots" });
  };
  return { control, log, timers, version, events, metrics, ready };
}

async function listenControl(
  store: string,
  components: ControlServerComponents,
): Promise<ControlServer> {
  // Loaded here, because no other command needs an HTTP server and it is the largest part of all.
  const { openControlServer } = await import("../http/control-server.ts");
  return openControlServer({ socketPath: controlSocket(store) }, components);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Closes everything, whatever fails on the way, and throws the first failure. */
async function closeAll(open: readonly Closable[]): Promise<void> {
  const failures: unknown[] = [];
  for (const part of open) await part.close().catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}
