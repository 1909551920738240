import { KelpieError } from "../base/errors.ts";
import type { Address } from "../host/net.ts";

/** The port IANA gave to NBD. */
export const nbdPort = 10809;

export interface NbdUri {
  address: Address;
  exportName: string;
}

/**
 * Parses `nbd://host[:port]/export` and `nbd+unix:///export?socket=PATH` (doc/uri.md of
 * NetworkBlockDevice/nbd). The name is percent-decoded and may be empty: the server's default.
 * Throws "invalid", and "unsupported" for the schemes with TLS.
 */
export function parseNbdUri(text: string): NbdUri {
  const match = /^([a-z+]+):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text);
  if (match === null) throw invalid(text, "it has no form of an NBD URI");
  const [, scheme = "", authority = "", path = "", query = ""] = match;
  if (scheme === "nbds" || scheme === "nbds+unix") {
    throw new KelpieError("unsupported", `${text}: TLS is not there yet`);
  }
  const exportName = decode(text, path);
  if (scheme === "nbd") return { address: tcpAddress(text, authority), exportName };
  if (scheme !== "nbd+unix") throw invalid(text, `"${scheme}" is not a scheme of NBD`);
  const socket = /(?:^|&)socket=([^&]*)/.exec(query)?.[1];
  if (authority !== "") throw invalid(text, "with nbd+unix there is no host");
  if (socket === undefined || socket === "") throw invalid(text, "it lacks ?socket=PATH");
  return { address: { kind: "unix", path: decode(text, socket) }, exportName };
}

/** The URI that QEMU, libnbd and `parseNbdUri` take for an export of a server. */
export function formatNbdUri({ address, exportName }: NbdUri): string {
  const name = encodePath(exportName);
  if (address.kind === "unix") return `nbd+unix:///${name}?socket=${encodePath(address.path)}`;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  const port = address.port === nbdPort ? "" : `:${address.port}`;
  return `nbd://${host}${port}/${name}`;
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
