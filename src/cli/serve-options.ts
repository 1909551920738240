import { resolve } from "node:path";
import { parseDuration } from "../base/durations.ts";
import { KelpieError } from "../base/errors.ts";
import { parseSize } from "../base/sizes.ts";
import type { Address } from "../host/net.ts";
import { nbdPort } from "../nbd/uri.ts";
import { formatAddress, isLocal, parseAddress } from "./addresses.ts";
import type { KeepDiscarded, S3Options } from "./context.ts";
import { nbdSocket, sheepdogSocket } from "./session.ts";

/** As every `sheep` has, and every client looks for. */
const sheepdogPort = 7000;

/** As nothing else that is much used. */
const httpPort = 7080;

/** Where to listen. */
export interface WantedListener {
  address: Address;
  /** Asked for by a flag: then it must work. A default that is taken is left out. */
  required: boolean;
}

interface ListenSettings {
  store: string;
  /** Allow addresses that other machines can reach. */
  insecure: boolean;
  /** There it takes TLS and a good certificate to get in, so they are allowed anyway. */
  guarded: boolean;
}

/** What --nbd says, or the defaults. Refuses what other machines could reach without `insecure`. */
export function nbdListeners(
  flags: readonly string[] | undefined,
  { store, insecure, guarded }: ListenSettings,
): WantedListener[] {
  return listeners("--nbd", flags, {
    open: insecure || guarded,
    defaults: [
      { kind: "tcp", host: "127.0.0.1", port: nbdPort },
      { kind: "unix", path: nbdSocket(store) },
    ],
  });
}

/** The same for --sheepdog. */
export function sheepdogListeners(
  flags: readonly string[] | undefined,
  { store, insecure, guarded }: ListenSettings,
): WantedListener[] {
  return listeners("--sheepdog", flags, {
    open: insecure || guarded,
    defaults: [
      { kind: "tcp", host: "127.0.0.1", port: sheepdogPort },
      { kind: "unix", path: sheepdogSocket(store) },
    ],
  });
}

/** The same for --http, which has TCP addresses only: the control socket is the API's Unix socket. */
export function httpListeners(
  flags: readonly string[] | undefined,
  { insecure }: Pick<ListenSettings, "insecure">,
): WantedListener[] {
  const found = listeners("--http", flags, {
    open: insecure,
    defaults: [{ kind: "tcp", host: "127.0.0.1", port: httpPort }],
  });
  const unix = found.find(({ address }) => address.kind === "unix");
  if (unix === undefined) return found;
  throw new KelpieError("invalid", `--http ${formatAddress(unix.address)}: it is no TCP address`, {
    remedy: "the store's control.sock is the same API on a Unix socket",
  });
}

function listeners(
  flag: string,
  values: readonly string[] | undefined,
  { open, defaults }: { open: boolean; defaults: readonly Address[] },
): WantedListener[] {
  if (values === undefined || values.length === 0) {
    return defaults.map((address) => ({ address, required: false }));
  }
  const addresses = values.map(parseAddress);
  if (addresses.includes("off") && addresses.length > 1) {
    throw new KelpieError("invalid", `${flag} off and another ${flag} contradict each other`);
  }
  return addresses
    .filter((address) => address !== "off")
    .map((address) => {
      if (!open && !isLocal(address)) throw notLocal(flag, address);
      // Other commands find it by this path, from other directories.
      const absolute: Address =
        address.kind === "unix" ? { kind: "unix", path: resolve(address.path) } : address;
      return { address: absolute, required: true };
    });
}

/** "1h,10%", or one of the two, in any order. */
export function parseKeepDiscarded(text: string): KeepDiscarded {
  const keep: KeepDiscarded = {};
  for (const part of text.split(",")) {
    const percent = /^\s*(\d{1,3}(?:\.\d{1,6})?)\s*%\s*$/.exec(part)?.[1];
    const key = percent === undefined ? "ms" : "fraction";
    if (keep[key] !== undefined) throw notAKeep(text);
    if (percent === undefined) keep.ms = parseDuration(part);
    else if (Number(percent) <= 100) keep.fraction = Number(percent) / 100;
    else throw notAKeep(text);
  }
  return keep;
}

function notLocal(flag: string, address: Address): KelpieError {
  const tls = `--tls-dir DIR --tls-verify-peer${flag === "--sheepdog" ? " --sheepdog-tls" : ""}`;
  return new KelpieError(
    "invalid",
    `${flag} ${formatAddress(address)}: anybody who reaches it could read and write every disk`,
    { remedy: `listen on 127.0.0.1 or a unix: socket, say ${tls}, or --insecure` },
  );
}

function notAKeep(text: string): KelpieError {
  return new KelpieError("invalid", `--keep-discarded ${text}: it is a time, a share, or both`, {
    remedy: "write it like 1h,10% or 0",
  });
}

/** What the server alone is told of a store in an object store. */
export function s3ServeOptions(options: {
  cacheSize?: string;
  takeOver?: boolean;
  acceptLoss?: boolean;
}): S3Options {
  const { cacheSize, takeOver, acceptLoss } = options;
  return {
    ...(cacheSize === undefined ? {} : { cacheBytes: parseSize(cacheSize) }),
    ...(takeOver === undefined ? {} : { takeOver }),
    ...(acceptLoss === undefined ? {} : { acceptLoss }),
  };
}

/** What means nothing for a directory is a mistake, and not to be passed over. */
export function refuseS3Options(options: {
  local?: string;
  s3Endpoint?: string;
  s3Region?: string;
  s3PathStyle?: string;
  cacheSize?: string;
  takeOver?: boolean;
  acceptLoss?: boolean;
}): void {
  const flags = {
    "--local": options.local,
    "--s3-endpoint": options.s3Endpoint,
    "--s3-region": options.s3Region,
    "--s3-path-style": options.s3PathStyle,
    "--cache-size": options.cacheSize,
    "--take-over": options.takeOver,
    "--accept-loss": options.acceptLoss,
  };
  const given = Object.entries(flags).find(([, value]) => value !== undefined)?.[0];
  if (given === undefined) return;
  throw new KelpieError("invalid", `${given} is for stores in an object store`, {
    remedy: "name one with --store s3://bucket/prefix",
  });
}
