import { BufferPool } from "../base/buffer-pool.ts";
import type { ByteBudget } from "../base/byte-budget.ts";
import { ConnectionCount } from "../base/connection-count.ts";
import { isKelpieError, messageOf } from "../base/errors.ts";
import type { Exports } from "../block/exports.ts";
import { guardDevice } from "../block/guard.ts";
import type { Log } from "../host/log.ts";
import type { Address, Connection, Listener, Net } from "../host/net.ts";
import type { Timers } from "../host/timers.ts";
import { Channel } from "./channel.ts";
import { closeExport } from "./export-choice.ts";
import { type Agreement, negotiateAsServer, type ServerTls } from "./handshake.ts";
import * as limits from "./limits.ts";
import { Transmission } from "./transmission.ts";
import type { HeaderStyle } from "./wire-transmission.ts";

export interface NbdServerSettings {
  addresses: readonly Address[];
  /** Without it there is no TLS. */
  tls?: ServerTls | undefined;
  /** The defaults, and their reasons, are in limits.ts. */
  connectionsMax?: number;
  handshakesMax?: number;
  requestsInFlightMax?: number;
  bytesInFlightMax?: number;
  handshakeMs?: number;
  closeMs?: number;
}

export interface NbdServerComponents {
  net: Net;
  timers: Timers;
  log: Log;
  exports: Exports;
  /** Limits that are shared with other servers, in place of connectionsMax. */
  connections?: ConnectionCount | undefined;
  /** Data in flight on all connections; without it only each has a limit. */
  budget?: ByteBudget | undefined;
}

export interface NbdServer {
  /** Where it listens: a port 0 is replaced by the port it got. */
  readonly addresses: readonly Address[];
  connections(): NbdConnectionInfo[];
  /**
   * Stops accepting; requests that come now get ESHUTDOWN; what is in flight is finished and its
   * replies leave. Connections that take longer than closeMs are cut. Resolves when every export is
   * closed, which is after the last request to its device has completed.
   */
  close(): Promise<void>;
}

/** Who is connected, for `vdi info`. */
export interface NbdConnectionInfo {
  peer: string;
  /** Undefined during the handshake, as is what is negotiated there. */
  exportName: string | undefined;
  readOnly: boolean;
  headers: HeaderStyle;
  contexts: readonly string[];
  requests: number;
  requestsInFlight: number;
}

/** Listens on every address, or on none: throws what `Net.listen` throws. */
export async function createNbdServer(
  settings: NbdServerSettings,
  components: NbdServerComponents,
): Promise<NbdServer> {
  const server = new Server(settings, components);
  await server.listen();
  return server;
}

type AllSettings = Required<Omit<NbdServerSettings, "connectionsMax">>;

class Server implements NbdServer {
  readonly #settings: AllSettings;
  readonly #components: NbdServerComponents;
  readonly #listeners: Listener[] = [];
  readonly #count: ConnectionCount;
  readonly #sessions = new Set<Session>();
  /** Those in the handshake, the oldest first. */
  readonly #negotiating = new Set<Session>();
  readonly #pool = new BufferPool();
  #shuttingDown = false;

  constructor(settings: NbdServerSettings, components: NbdServerComponents) {
    this.#components = components;
    const max = settings.connectionsMax ?? limits.connectionsMax;
    this.#count = components.connections ?? new ConnectionCount({ max, perAddressMax: max });
    this.#settings = {
      addresses: settings.addresses,
      tls: settings.tls,
      handshakesMax: settings.handshakesMax ?? limits.handshakesMax,
      requestsInFlightMax: settings.requestsInFlightMax ?? limits.requestsInFlightMax,
      bytesInFlightMax: settings.bytesInFlightMax ?? limits.bytesInFlightMax,
      handshakeMs: settings.handshakeMs ?? limits.handshakeMs,
      closeMs: settings.closeMs ?? limits.closeMs,
    };
  }

  get addresses(): readonly Address[] {
    return this.#listeners.map((listener) => listener.address);
  }

  async listen(): Promise<void> {
    try {
      for (const address of this.#settings.addresses) {
        const accept = (connection: Connection) => this.#accept(connection);
        this.#listeners.push(await this.#components.net.listen(address, accept));
      }
    } catch (error) {
      await this.close(); // the caller gets the error, and no half of a server
      throw error;
    }
  }

  connections(): NbdConnectionInfo[] {
    return [...this.#sessions].map((session) => session.info());
  }

  async close(): Promise<void> {
    this.#shuttingDown = true;
    await Promise.all(this.#listeners.map((listener) => listener.close()));
    const sessions = [...this.#sessions];
    for (const session of sessions) session.shutdown();
    const cut = this.#components.timers.after(this.#settings.closeMs, () => {
      for (const session of sessions) session.destroy();
    });
    await Promise.all(sessions.map((session) => session.done));
    cut.cancel();
  }

  #accept(connection: Connection): void {
    const { peer } = connection;
    const refusal = this.#shuttingDown ? "the server is shutting down" : this.#count.enter(peer);
    if (refusal !== undefined) {
      this.#components.log.warn("nbd connection refused", { peer, reason: refusal });
      connection.destroy();
      return;
    }
    this.#makeRoom();
    const session: Session = new Session(connection, this.#settings, {
      ...this.#components,
      isShuttingDown: () => this.#shuttingDown,
      negotiated: () => this.#negotiating.delete(session),
      pool: this.#pool,
    });
    this.#sessions.add(session);
    this.#negotiating.add(session);
    void session.done.then(() => {
      this.#sessions.delete(session);
      this.#count.leave(peer);
    });
  }

  #makeRoom(): void {
    const [oldest] = this.#negotiating;
    if (oldest === undefined || this.#negotiating.size < this.#settings.handshakesMax) return;
    this.#negotiating.delete(oldest);
    this.#components.log.debug("nbd handshake gives way", { peer: oldest.info().peer });
    oldest.destroy();
  }
}

interface SessionComponents extends NbdServerComponents {
  isShuttingDown(): boolean;
  /** The handshake is over, whatever came of it. */
  negotiated(): void;
  pool: BufferPool;
}

/** One connection from its first byte to the closing of its export. */
class Session {
  /** Never rejects. */
  readonly done: Promise<void>;
  readonly #channel: Channel;
  readonly #settings: AllSettings;
  readonly #components: SessionComponents;
  #agreement: Agreement | undefined;
  #transmission: Transmission | undefined;

  constructor(connection: Connection, settings: AllSettings, components: SessionComponents) {
    this.#settings = settings;
    this.#components = components;
    this.#channel = new Channel(connection);
    this.done = this.#run();
  }

  info(): NbdConnectionInfo {
    const agreement = this.#agreement;
    return {
      peer: this.#channel.connection.peer,
      exportName: agreement?.opened.name,
      readOnly: agreement?.opened.device.readOnly ?? false,
      headers: agreement?.style ?? "simple",
      contexts: agreement?.contextNames ?? [],
      requests: this.#transmission?.requests ?? 0,
      requestsInFlight: this.#transmission?.inFlight ?? 0,
    };
  }

  shutdown(): void {
    // A client in the handshake has nothing in flight that could be lost.
    if (this.#transmission === undefined) this.#channel.connection.end();
    else this.#transmission.shutdown();
  }

  destroy(): void {
    this.#channel.connection.destroy();
  }

  async #run(): Promise<void> {
    const agreement = await this.#negotiate();
    this.#components.negotiated();
    if (agreement === undefined) {
      await this.#channel.closed;
      return;
    }
    this.#agreement = agreement;
    try {
      await this.#serve(agreement);
    } finally {
      await closeExport(agreement.opened, this.#components.log);
    }
  }

  async #negotiate(): Promise<Agreement | undefined> {
    const { timers, exports, log, isShuttingDown } = this.#components;
    const { connection } = this.#channel;
    let tooLate = false;
    const limit = timers.after(this.#settings.handshakeMs, () => {
      tooLate = true;
      connection.destroy();
    });
    try {
      const { tls } = this.#settings;
      const parts = { channel: this.#channel, exports, log, tls, isShuttingDown };
      const agreement = await negotiateAsServer(parts);
      if (agreement === undefined) this.#endSoon();
      return agreement;
    } catch (error) {
      // Whatever it was, it was this client's handshake, and the client is gone or must go.
      const reason = tooLate ? "the handshake took too long" : messageOf(error);
      if (!isKelpieError(error)) log.error("nbd handshake failed unexpectedly", { reason });
      else log.debug("nbd handshake failed", { peer: connection.peer, reason });
      connection.destroy();
      return undefined;
    } finally {
      limit.cancel();
    }
  }

  /** The last reply leaves; who does not close then is cut off. */
  #endSoon(): void {
    const { connection, closed } = this.#channel;
    connection.end();
    const linger = this.#components.timers.after(this.#settings.closeMs, () => {
      connection.destroy();
    });
    void closed.then(() => linger.cancel());
  }

  async #serve({ opened, style, contexts }: Agreement): Promise<void> {
    const { requestsInFlightMax, bytesInFlightMax, closeMs } = this.#settings;
    const { timers, log, pool, budget } = this.#components;
    const transmission = new Transmission(
      { style, contexts, requestsInFlightMax, bytesInFlightMax, budget, closeMs },
      {
        channel: this.#channel,
        device: guardDevice(opened.device),
        meter: opened.meter,
        timers,
        log,
        pool,
      },
    );
    this.#transmission = transmission;
    this.#channel.handOver(transmission);
    if (this.#components.isShuttingDown()) transmission.shutdown();
    await transmission.done;
  }
}
