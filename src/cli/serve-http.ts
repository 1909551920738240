import { isKelpieError } from "../base/errors.ts";
import type { Address } from "../host/net.ts";
import type { ConsoleFiles } from "../http/console.ts";
import type { TcpServerComponents } from "../http/tcp-server.ts";
import { formatAddress } from "./addresses.ts";
import type { CliContext } from "./context.ts";
import type { WantedListener } from "./serve-options.ts";
import { tokenFile } from "./session.ts";

export interface HttpListeners {
  /** "http://127.0.0.1:7080" */
  readonly urls: readonly string[];
  /** Who has it may do everything. Undefined if nothing is listened on. */
  readonly token: string | undefined;
  /** Whether there is a page at "/". */
  readonly hasConsole: boolean;
  close(): Promise<void>;
}

/** The API, metrics and the console on each address, all with the store's one token. */
export async function listenHttp(
  context: CliContext,
  store: string,
  {
    wanted,
    components,
  }: {
    wanted: readonly WantedListener[];
    components: Omit<TcpServerComponents, "console">;
  },
): Promise<HttpListeners> {
  if (wanted.length === 0) return noListeners;
  // Loaded here, because no other command needs an HTTP server and it is the largest part of all.
  const { openTcpServer } = await import("../http/tcp-server.ts");
  const { loadToken } = await import("../http/token.ts");
  const token = await loadToken(tokenFile(store), context.host);
  const page = await loadPage(context);
  const servers: { url: string; close(): Promise<void> }[] = [];
  const close = async () => {
    await Promise.all(servers.map((server) => server.close()));
  };
  try {
    for (const { address, required } of wanted) {
      try {
        const { host, port } = tcpOf(address);
        const settings = { host, port, token };
        servers.push(await openTcpServer(settings, { ...components, console: page }));
      } catch (error) {
        if (required || !isKelpieError(error, "busy")) throw error;
        const text = `kelpie: ${formatAddress(address)} is taken: not listening there\n`;
        await context.stderr.write(text);
      }
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { urls: servers.map(({ url }) => url), token, hasConsole: page !== undefined, close };
}

const noListeners: HttpListeners = {
  urls: [],
  token: undefined,
  hasConsole: false,
  async close() {},
};

async function loadPage({ consoleDirectory }: CliContext): Promise<ConsoleFiles | undefined> {
  if (consoleDirectory === undefined) return undefined;
  const { loadConsole } = await import("../http/console.ts");
  return loadConsole(consoleDirectory);
}

function tcpOf(address: Address): { host: string; port: number } {
  if (address.kind === "tcp") return address;
  // Refused before, with the option's name.
  throw new TypeError("HTTP is served on TCP addresses");
}
