import { KelpieError } from "../base/errors.ts";
import { mappedPrefixBits, parseIpAddress, sharesPrefix } from "../base/ip-address.ts";
import { namePattern } from "../base/name-pattern.ts";
import type { ExportClient } from "./exports.ts";

export type Right = "write" | "read" | "none";

/**
 * Who may do what with which disk, as a file says it, a rule a line:
 *
 *     # disk    right   who
 *     web-*     write   cert=web-host
 *     web-*     read    cert=backup-* from=10.0.0.0/8
 *     *         write   from=unix
 *
 * The first line counts whose pattern fits the disk's name and all of whose conditions fit the client.
 * Without conditions it is for everybody; what no line is for is refused. `*` in a pattern stands for any
 * characters. `from` is an address, a network or "unix"; `cert` the common name in a certificate that was
 * verified. Rights are write, which includes reading, read, and none. Behind # is a remark.
 */
export class AccessRules {
  readonly #rules: readonly Rule[];

  private constructor(rules: readonly Rule[]) {
    this.#rules = rules;
  }

  /** Throws "invalid", naming the line. */
  static parse(text: string): AccessRules {
    const rules: Rule[] = [];
    for (const [index, line] of text.split("\n").entries()) {
      const words = line.replace(/#.*$/, "").trim().split(/\s+/);
      if (words[0] !== "") rules.push(parseRule(words, index + 1));
    }
    return new AccessRules(rules);
  }

  /** Whether some line is about certificates: then clients must be made to show theirs. */
  get namesCertificates(): boolean {
    return this.#rules.some(({ certificate }) => certificate !== undefined);
  }

  rightOf(client: ExportClient, disk: string): Right {
    const found = this.#rules.find((rule) => rule.disk.test(disk) && isFor(rule, client));
    return found?.right ?? "none";
  }
}

interface Rule {
  disk: RegExp;
  right: Right;
  certificate?: RegExp;
  from?: Network | "unix";
}

interface Network {
  address: Uint8Array;
  bits: number;
}

function isFor({ certificate, from }: Rule, client: ExportClient): boolean {
  if (certificate !== undefined) {
    if (client.certificate === undefined || !certificate.test(client.certificate)) return false;
  }
  if (from === undefined) return true;
  if (from === "unix") return client.peer === "unix";
  const address = addressOf(client.peer);
  return address !== undefined && sharesPrefix(address, from.address, from.bits);
}

/** Of "10.0.0.3:51034" or "[fe80::1]:51034". */
function addressOf(peer: string): Uint8Array | undefined {
  const match = /^(?:\[([^\]%]+)(?:%[^\]]*)?\]|([^:]+)):\d+$/.exec(peer);
  return match === null ? undefined : parseIpAddress(match[1] ?? match[2] ?? "");
}

function parseRule(words: readonly string[], line: number): Rule {
  const [disk = "", right = "", ...conditions] = words;
  if (right !== "write" && right !== "read" && right !== "none") {
    throw invalid(line, `"${right}" is no right: write, read or none`);
  }
  const rule: Rule = { disk: namePattern(disk), right };
  for (const condition of conditions) {
    const [, key, value] = /^(cert|from)=(.+)$/.exec(condition) ?? [];
    if (value === undefined) throw invalid(line, `"${condition}" is neither cert= nor from=`);
    const isTwice = key === "cert" ? rule.certificate !== undefined : rule.from !== undefined;
    if (isTwice) throw invalid(line, `${key}= stands twice: write two lines`);
    if (key === "cert") rule.certificate = namePattern(value);
    else rule.from = value === "unix" ? "unix" : parseNetwork(value, line);
  }
  return rule;
}

function parseNetwork(text: string, line: number): Network {
  const [, host = "", length] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const address = parseIpAddress(host);
  if (address === undefined) {
    throw invalid(line, `from=${text}: it is unix, an IP address or a network like 10.0.0.0/8`);
  }
  const isQuad = !host.includes(":");
  const bitsMax = isQuad ? 32 : 128;
  const bits = length === undefined ? bitsMax : Number(length);
  if (bits > bitsMax) throw invalid(line, `from=${text}: such an address has ${bitsMax} bits`);
  return { address, bits: isQuad ? bits + mappedPrefixBits : bits };
}

function invalid(line: number, why: string): KelpieError {
  return new KelpieError("invalid", `access rules, line ${line}: ${why}`, {
    remedy: 'write lines like "web-* write cert=web-host from=10.0.0.0/8"',
  });
}
