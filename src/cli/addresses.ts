import { KelpieError } from "../base/errors.ts";
import type { Address } from "../host/net.ts";

/** An ADDR of the command line: `host:port`, `[v6]:port`, `unix:PATH` or `off`. */
export function parseAddress(text: string): Address | "off" {
  if (text === "off") return "off";
  if (text.startsWith("unix:")) {
    const path = text.slice("unix:".length);
    if (path === "") throw notAnAddress(text, "the path is missing");
    return { kind: "unix", path };
  }
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]\s/]+)):(\d{1,5})$/i.exec(text);
  if (match === null) throw notAnAddress(text, "it is neither host:port nor unix:PATH");
  const port = Number(match[3]);
  if (port > 65_535) throw notAnAddress(text, `${port} is not a port`);
  return { kind: "tcp", host: match[1] ?? match[2] ?? "", port };
}

export function formatAddress(address: Address): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `${host}:${address.port}`;
}

/** Whether only this machine can connect. A name other than localhost may lead anywhere. */
export function isLocal(address: Address): boolean {
  if (address.kind === "unix") return true;
  const host = address.host.toLowerCase();
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

function notAnAddress(text: string, why: string): KelpieError {
  return new KelpieError("invalid", `address "${text}": ${why}`, {
    remedy: "write 127.0.0.1:10809, [::1]:10809, unix:/path/of/socket or off",
  });
}
