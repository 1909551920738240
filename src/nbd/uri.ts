import { KelpieError } from "../base/errors.ts";
import type { Address } from "../host/net.ts";

/** The port IANA gave to NBD. */
export const nbdPort = 10809;

export interface NbdUri {
  address: Address;
  exportName: string;
  /** Absent: in the clear. */
  tls?: UriTls;
}

export interface UriTls {
  /** Directory of ca-cert.pem, and of client-cert.pem and client-key.pem if the server wants to see them. */
  certificates?: string;
  /** What the server's certificate must be for, if that is not the host of the URI. */
  hostName?: string;
}

/**
 * Parses `nbd://host[:port]/export` and `nbd+unix:///export?socket=PATH` (doc/uri.md of
 * NetworkBlockDevice/nbd), and `nbds:` and `nbds+unix:`, which are the same in TLS, with
 * `tls-certificates=DIR` and `tls-hostname=NAME`. The name is percent-decoded and may be empty: the
 * server's default. Throws "invalid".
 */
export function parseNbdUri(text: string): NbdUri {
  const match = /^([a-z+]+):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text);
  if (match === null) throw invalid(text, "it has no form of an NBD URI");
  const [, scheme = "", authority = "", path = "", query = ""] = match;
  const [, secure, onSocket] = /^nbd(s?)(\+unix)?$/.exec(scheme) ?? [];
  if (secure === undefined) throw invalid(text, `"${scheme}" is not a scheme of NBD`);
  const parameter = (name: string): string | undefined => {
    const found = query.split("&").find((part) => part.startsWith(`${name}=`));
    return found === undefined ? undefined : decode(text, found.slice(name.length + 1));
  };
  const exportName = decode(text, path);
  const tls = secure === "" ? {} : { tls: tlsOf(parameter) };
  if (onSocket === undefined) return { address: tcpAddress(text, authority), exportName, ...tls };
  const socket = parameter("socket");
  if (authority !== "") throw invalid(text, `with ${scheme} there is no host`);
  if (socket === undefined || socket === "") throw invalid(text, "it lacks ?socket=PATH");
  return { address: { kind: "unix", path: socket }, exportName, ...tls };
}

function tlsOf(parameter: (name: string) => string | undefined): UriTls {
  const certificates = parameter("tls-certificates");
  const hostName = parameter("tls-hostname");
  return {
    ...(certificates === undefined ? {} : { certificates }),
    ...(hostName === undefined ? {} : { hostName }),
  };
}

/** The URI that QEMU, libnbd and `parseNbdUri` take for an export of a server. */
export function formatNbdUri({ address, exportName, tls }: NbdUri): string {
  const name = encodePath(exportName);
  const scheme = tls === undefined ? "nbd" : "nbds";
  const parameters: [string, string | undefined][] = [
    ["socket", address.kind === "unix" ? address.path : undefined],
    ["tls-certificates", tls?.certificates],
    ["tls-hostname", tls?.hostName],
  ];
  const given = parameters.flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${encodePath(value)}`],
  );
  const query = given.length === 0 ? "" : `?${given.join("&")}`;
  if (address.kind === "unix") return `${scheme}+unix:///${name}${query}`;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  const port = address.port === nbdPort ? "" : `:${address.port}`;
  return `${scheme}://${host}${port}/${name}${query}`;
}

function tcpAddress(text: string, authority: string): Address {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:@[\]]+))(?::(\d{1,5}))?$/.exec(authority);
  if (match === null) throw invalid(text, "it names no host");
  const port = match[3] === undefined ? nbdPort : Number(match[3]);
  if (port < 1 || port > 65_535) throw invalid(text, `${port} is not a port`);
  const host = match[1] ?? decode(text, match[2] ?? "");
  if (match[1] === undefined && /[:/?#@[\]%\s]/.test(host)) {
    throw invalid(text, `"${host}" is not a host`);
  }
  return { kind: "tcp", host, port };
}

/** "/" may stay as it is in both places, and people read it better. */
function encodePath(text: string): string {
  return encodeURIComponent(text).replaceAll("%2F", "/").replaceAll("%40", "@");
}

function decode(text: string, part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw invalid(text, "a percent sign is not followed by a UTF-8 byte"); // all it can refuse
  }
}

function invalid(text: string, why: string): KelpieError {
  return new KelpieError("invalid", `${text}: ${why}`, {
    remedy: "write nbd://host:port/disk or nbd+unix:///disk?socket=/path/of/socket",
  });
}
