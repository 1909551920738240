import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Address, Net } from "../host/net.ts";
import { tlsListening } from "../host/tls-net.ts";
import { shortSocketPath } from "../http/socket-path.ts";
import { handshakeMs, handshakesMax } from "../nbd/limits.ts";
import { SheepdogServer } from "../sheepdog/server.ts";
import { formatAddress, isLocal } from "./addresses.ts";
import type { CliContext, LocalStore } from "./context.ts";
import type { Doors } from "./serve-doors.ts";
import type { WantedListener } from "./serve-options.ts";
import type { ServerCertificates } from "./serve-tls.ts";
import { type ServerWatch, sheepdogConnection } from "./serve-watch.ts";

export interface SheepdogListeners {
  /** Under the names people know, and with the ports that 0 became. */
  readonly addresses: readonly Address[];
  close(): Promise<void>;
}

interface Settings {
  wanted: readonly WantedListener[];
  allowAdmin: boolean;
  doors: Pick<Doors, "connections" | "budget" | "sheepdogTls">;
  /** Aborted when a client has ended the server. */
  stop: AbortController;
  watch: ServerWatch;
}

/** One server on all addresses, because its operations are one after the other over all of them. */
export async function listenSheepdog(
  context: CliContext,
  { sheepdog }: LocalStore,
  { wanted, allowAdmin, stop, doors, watch }: Settings,
): Promise<SheepdogListeners | undefined> {
  if (sheepdog === undefined) {
    const asked = wanted.find(({ required }) => required);
    if (asked === undefined) return undefined;
    throw new KelpieError(
      "unsupported",
      `--sheepdog ${formatAddress(asked.address)}: the store is a Sheepdog cluster itself`,
    );
  }
  if (wanted.length === 0) return undefined;
  const { timers, log } = context.host;
  const { connections, budget, sheepdogTls } = doors;
  const net = sheepdogTls === undefined ? context.host.net : inTls(context, sheepdogTls);
  const server = new SheepdogServer(
    { allowAdmin },
    {
      net,
      timers,
      log,
      ...sheepdog,
      connections,
      budget,
      meterOfVid: (vid) => watch.meterOfVid(vid),
      stop: () => stop.abort(),
    },
  );
  watch.addConnections(() => server.connections().map(sheepdogConnection));
  const addresses: Address[] = [];
  const shortened: { close(): void }[] = [];
  const close = async () => {
    await server.close();
    for (const short of shortened) short.close(); // The socket's file is removed by this name.
  };
  try {
    for (const { address, required } of wanted) {
      const short = address.kind === "unix" ? shortSocketPath(address.path) : undefined;
      if (short !== undefined) shortened.push(short);
      const bound: Address = short === undefined ? address : { kind: "unix", path: short.path };
      try {
        const actual = await server.listen(bound);
        addresses.push(address.kind === "unix" ? address : actual);
      } catch (error) {
        if (required || !isKelpieError(error, "busy")) throw error;
        const text = `kelpie: ${formatAddress(address)} is taken: not listening there\n`;
        await context.stderr.write(text);
        continue;
      }
      if (!isLocal(address) && sheepdogTls?.verifyPeer !== true) warnOpen(context, address);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { addresses, close };
}

/** On TCP: a Unix socket has an owner and a mode. */
function inTls({ host }: CliContext, certificates: ServerCertificates): Net {
  const { verifyPeer } = certificates;
  const context = () => certificates.context();
  const settings = { context, verifyPeer, handshakeMs, handshakesMax };
  const secure = tlsListening(settings, host);
  return {
    ...secure,
    listen: (address, accept) =>
      (address.kind === "unix" ? host.net : secure).listen(address, accept),
  };
}

function warnOpen({ host }: CliContext, address: Address): void {
  host.log.warn("sheepdog is open to other machines", {
    address: formatAddress(address),
    why: "the protocol has no passwords: who reaches it can read, change and delete every disk",
  });
}
