import { KelpieError } from "../base/errors.ts";
import type { Address } from "../host/net.ts";

/** The port of the original. */
export const sheepdogPort = 7000;

export interface SheepdogUri {
  /** Nodes of one cluster: any will do. */
  nodes: Address[];
  /** Undefined: the cluster itself. */
  name: string | undefined;
  /** A tag or a snap id; undefined: the working VDI. */
  snapshot: string | undefined;
}

/** Whether it is meant to be one: then `parseSheepdogUri` says what is wrong with it. */
export function isSheepdogUri(text: string): boolean {
  return /^sheepdog(\+\w*)?:\/\//.test(text);
}

/**
 * Parses `sheepdog://host[:port][,host[:port]…][/NAME[#SNAPSHOT]]` and
 * `sheepdog+unix:///[NAME]?socket=PATH[#SNAPSHOT]`: QEMU's, with more than one node, and without a name
 * for a whole cluster. Name and snapshot are percent-decoded. Throws "invalid".
 */
export function parseSheepdogUri(text: string): SheepdogUri {
  const match =
    /^(sheepdog(?:\+[a-z]+)?):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?(?:#(.*))?$/.exec(text);
  if (match === null) throw invalid(text, "it has no form of a Sheepdog URI");
  const [, scheme = "", authority = "", path = "", query, fragment = ""] = match;
  const name = path === "" ? undefined : decode(text, path);
  const snapshot = fragment === "" ? undefined : decode(text, fragment);
  if (name === undefined && snapshot !== undefined) throw invalid(text, "it names no disk");
  if (scheme === "sheepdog+unix") {
    if (authority !== "") throw invalid(text, "with sheepdog+unix there is no host");
    const socket = /^socket=([^&]+)$/.exec(query ?? "")?.[1];
    if (socket === undefined) throw invalid(text, "it lacks ?socket=PATH");
    return { nodes: [{ kind: "unix", path: decode(text, socket) }], name, snapshot };
  }
  if (scheme !== "sheepdog" && scheme !== "sheepdog+tcp") {
    throw invalid(text, `"${scheme}" is not a scheme of Sheepdog`);
  }
  if (query !== undefined) throw invalid(text, "only sheepdog+unix takes parameters");
  const hosts = authority === "" ? ["127.0.0.1"] : authority.split(",");
  return { nodes: hosts.map((host) => tcpAddress(text, host)), name, snapshot };
}

/** The URI of the cluster alone; the same for all ways to write it. */
export function formatClusterUri(nodes: readonly Address[]): string {
  const [first] = nodes;
  if (first?.kind === "unix") return `sheepdog+unix:///?socket=${encodeURI(first.path)}`;
  const hosts = nodes.map((node) => (node.kind === "tcp" ? hostOf(node.host, node.port) : ""));
  return `sheepdog://${hosts.join(",")}`;
}

function hostOf(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function tcpAddress(text: string, authority: string): Address {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:@[\]]+))(?::(\d{1,5}))?$/.exec(authority);
  const host = match?.[1] ?? match?.[2] ?? "";
  if (match === null || /[/?#@%\s]/.test(host)) throw invalid(text, `"${authority}" is no host`);
  const port = match[3] === undefined ? sheepdogPort : Number(match[3]);
  if (port < 1 || port > 65_535) throw invalid(text, `${port} is not a port`);
  return { kind: "tcp", host, port };
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
    remedy: "write sheepdog://host:port/disk#tag or sheepdog+unix:///disk?socket=/path/of/sock",
  });
}
