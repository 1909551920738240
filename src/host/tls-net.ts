import { messageOf } from "../base/errors.ts";
import type { Log } from "./log.ts";
import type { Address, Connection, Listener, Net, TlsContext } from "./net.ts";
import type { Timers } from "./timers.ts";

export interface TlsNetSettings {
  /** Asked for at each connection, so that new certificates count from the next one on. */
  context(): TlsContext;
  verifyPeer: boolean;
  /** How long a handshake may take. */
  handshakeMs: number;
  /** Handshakes at once; who begins one more takes the place of the oldest. */
  handshakesMax: number;
}

/**
 * A network whose listeners speak TLS from the first byte on: for protocols that have no TLS of their own.
 * Connections are accepted when their handshake is over.
 */
export function tlsListening(
  settings: TlsNetSettings,
  { net, timers, log }: { net: Net; timers: Timers; log: Log },
): Net {
  const waiting = new Set<Connection>();
  const secure = async (connection: Connection): Promise<boolean> => {
    const [oldest] = waiting;
    if (oldest !== undefined && waiting.size >= settings.handshakesMax) {
      waiting.delete(oldest);
      oldest.destroy();
    }
    waiting.add(connection);
    const limit = timers.after(settings.handshakeMs, () => connection.destroy());
    try {
      const { verifyPeer } = settings;
      await connection.startTls({ role: "server", context: settings.context(), verifyPeer });
      return true;
    } catch (error) {
      log.warn("tls refused", { peer: connection.peer, reason: messageOf(error) });
      connection.destroy();
      return false;
    } finally {
      limit.cancel();
      waiting.delete(connection);
    }
  };
  return {
    listen: async (
      address: Address,
      accept: (connection: Connection) => void,
    ): Promise<Listener> => {
      let isOpen = true;
      const listener = await net.listen(address, (connection) => {
        void secure(connection).then((isSecure) => {
          if (isSecure && isOpen) accept(connection);
          else connection.destroy();
        });
      });
      return {
        address: listener.address,
        async close() {
          isOpen = false;
          for (const connection of waiting) connection.destroy();
          await listener.close();
        },
      };
    },
    connect: (address) => net.connect(address),
    tlsContext: (identity) => net.tlsContext(identity),
  };
}
