import { resolve } from "node:path";
import { ByteBudget } from "../base/byte-budget.ts";
import { ConnectionCount } from "../base/connection-count.ts";
import { KelpieError } from "../base/errors.ts";
import { connectionsMax } from "../nbd/limits.ts";
import type { CliContext } from "./context.ts";
import { AccessFile } from "./serve-access.ts";
import { ServerCertificates, type TlsFlags, tlsModeOf } from "./serve-tls.ts";

/**
 * Requests that are being answered hold their data. Eight connections may have as much as one may; with more
 * of them each waits for its turn, and a server does not grow with the number of its clients.
 */
const bytesInFlightMax = 512 * 2 ** 20;

export interface DoorFlags extends TlsFlags {
  access?: string;
  sheepdogTls?: boolean;
  maxConnections?: string;
}

/** What stands in front of the disks: who gets in, and how many. */
export interface Doors {
  tls: ServerCertificates | undefined;
  access: AccessFile | undefined;
  /** Sheepdog's protocol inside TLS, on TCP addresses. */
  sheepdogTls: ServerCertificates | undefined;
  connections: ConnectionCount;
  /** Data in flight through all of them. */
  budget: ByteBudget;
  /** It takes TLS, and a certificate or a rule of the access file, to get in: not whoever comes along. */
  nbdIsGuarded: boolean;
  sheepdogIsGuarded: boolean;
  /** Whether there is anything to read again. */
  reloads: boolean;
  reload(): Promise<void>;
}

/** Reads certificates and rules. Throws "invalid" for flags that contradict each other. */
export async function openDoors(context: CliContext, flags: DoorFlags): Promise<Doors> {
  const connections = new ConnectionCount(parseConnections(flags.maxConnections));
  const tls = await openTls(context, flags);
  const path = flags.access === undefined ? undefined : resolve(flags.access);
  const access = path === undefined ? undefined : await AccessFile.load(context, path);
  access?.mustSeeCertificates(tls?.verifyPeer === true);
  if (flags.sheepdogTls === true && tls === undefined) {
    throw new KelpieError("invalid", "--sheepdog-tls needs certificates", {
      remedy: "name their directory with --tls-dir; kelpie tls init DIR makes some",
    });
  }
  const verifies = tls?.verifyPeer === true;
  return {
    tls,
    access,
    sheepdogTls: flags.sheepdogTls === true ? tls : undefined,
    connections,
    budget: new ByteBudget(bytesInFlightMax),
    nbdIsGuarded: tls?.mode === "required" && (verifies || access !== undefined),
    sheepdogIsGuarded: flags.sheepdogTls === true && verifies,
    reloads: tls !== undefined || access !== undefined,
    async reload() {
      await tls?.reload();
      await access?.reload();
    },
  };
}

async function openTls(
  context: CliContext,
  flags: DoorFlags,
): Promise<ServerCertificates | undefined> {
  const mode = tlsModeOf(flags);
  const { tlsDir, tlsVerifyPeer = false } = flags;
  if (mode === "off" || tlsDir === undefined) return undefined;
  const directory = resolve(tlsDir);
  return await ServerCertificates.load(context, { directory, mode, verifyPeer: tlsVerifyPeer });
}

/** "512", or "512,256" with the limit for one address, which else is half of it. */
export function parseConnections(text: string | undefined): ConnectionCount["limits"] {
  if (text === undefined) return { max: connectionsMax, perAddressMax: connectionsMax / 2 };
  const [, max, perAddress] = /^(\d{1,6})(?:,(\d{1,6}))?$/.exec(text) ?? [];
  const limits = {
    max: Number(max),
    perAddressMax: perAddress === undefined ? Math.ceil(Number(max) / 2) : Number(perAddress),
  };
  if (limits.max >= 1 && limits.perAddressMax >= 1) return limits;
  throw new KelpieError("invalid", `--max-connections ${text}: it is one number, or two`, {
    remedy: "write it like 512 or 512,256",
  });
}
