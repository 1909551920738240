import { KelpieError, messageOf } from "../base/errors.ts";
import type { Address, TlsContext } from "../host/net.ts";
import type { ServerTls } from "../nbd/handshake.ts";
import type { UriTls } from "../nbd/uri.ts";
import type { CliContext } from "./context.ts";
import { loadServerTls } from "./tls-credentials.ts";

export interface TlsFlags {
  tlsDir?: string;
  tls?: string;
  tlsVerifyPeer?: boolean;
}

export type TlsMode = "off" | "offered" | "required";

/** What the flags come to: TLS is required once there are certificates, unless they say otherwise. */
export function tlsModeOf({ tlsDir, tls, tlsVerifyPeer }: TlsFlags): TlsMode {
  const mode = tls ?? (tlsDir === undefined ? "off" : "required");
  if (mode !== "off" && mode !== "offered" && mode !== "required") {
    throw new KelpieError("invalid", `--tls ${mode}: it is off, offered or required`);
  }
  if (mode !== "off" && tlsDir === undefined) {
    throw new KelpieError("invalid", `--tls ${mode} needs certificates`, {
      remedy: "name their directory with --tls-dir; kelpie tls init DIR makes some",
    });
  }
  if (mode === "off" && tlsVerifyPeer === true) {
    throw new KelpieError("invalid", "--tls-verify-peer without TLS", {
      remedy: "add --tls-dir DIR",
    });
  }
  return mode;
}

/** The server's certificates, as they were when they were read last. */
export class ServerCertificates {
  readonly directory: string;
  readonly mode: "offered" | "required";
  readonly verifyPeer: boolean;
  readonly #host: CliContext["host"];
  #context: TlsContext;

  /** Throws what `loadServerTls` throws. */
  static async load(
    { host }: CliContext,
    settings: { directory: string; mode: "offered" | "required"; verifyPeer: boolean },
  ): Promise<ServerCertificates> {
    const context = await loadServerTls(settings.directory, host);
    return new ServerCertificates(host, { ...settings, context });
  }

  private constructor(
    host: CliContext["host"],
    settings: {
      directory: string;
      mode: "offered" | "required";
      verifyPeer: boolean;
      context: TlsContext;
    },
  ) {
    this.directory = settings.directory;
    this.mode = settings.mode;
    this.verifyPeer = settings.verifyPeer;
    this.#host = host;
    this.#context = settings.context;
  }

  /** Connections that are there keep what they began with. If it fails the old ones stay. */
  async reload(): Promise<void> {
    const { log } = this.#host;
    try {
      this.#context = await loadServerTls(this.directory, this.#host);
      log.info("certificates read again", { directory: this.directory });
    } catch (error) {
      log.error("certificates not read again: the old ones stay", { error: messageOf(error) });
    }
  }

  context(): TlsContext {
    return this.#context;
  }

  /** At one address: a Unix socket has an owner and a mode, and this machine's commands use it. */
  at(address: Address): ServerTls {
    return {
      context: () => this.#context,
      required: this.requiredAt(address),
      verifyPeer: this.verifyPeer,
    };
  }

  requiredAt(address: Address): boolean {
    return this.mode === "required" && address.kind === "tcp";
  }

  /** What the URI of an address says, where it must be TLS. */
  uriAt(address: Address): { tls?: UriTls } {
    return this.requiredAt(address) ? { tls: { certificates: this.directory } } : {};
  }
}
