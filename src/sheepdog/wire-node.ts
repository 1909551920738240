import { KelpieError } from "../base/errors.ts";
import { readU16, readU32, readU64, writeU16, writeU32, writeU64 } from "../base/little-endian.ts";

/*
 * Little-endian.
 *
 * Id of a node                              Node
 *   0 16  address                            0 24  - (pointers in the original's memory)
 *  16  2  port                              24 40  its id
 *  18 16  address for objects; zero: same   64  2  number of virtual nodes
 *  34  2  port for objects; zero: same      66  2  -
 *  36  4  -                                 68  4  zone
 *                                           72  8  space in bytes
 *
 * An IPv4 address is the last 4 of the 16 bytes, and the others are zero. What is marked with - is zero
 * when written and not looked at when read. Lists are in the order of the addresses and ports.
 */
export const nodeIdBytes = 40;
export const nodeBytes = 80;
export const nodesMax = 6144;

export interface NodeId {
  /** "127.0.0.1", or an IPv6 address without brackets. */
  host: string;
  port: number;
}

export interface ClusterNode extends NodeId {
  vnodes: number;
  zone: number;
  spaceBytes: number;
}

export function encodeNodeId(bytes: Uint8Array, at: number, { host, port }: NodeId): void {
  bytes.fill(0, at, at + nodeIdBytes);
  bytes.set(encodeIpAddress(host), at);
  writeU16(bytes, at + 16, port);
}

export function decodeNodeId(bytes: Uint8Array, at: number): NodeId {
  return {
    host: formatIpAddress(bytes.subarray(at, at + addressBytes)),
    port: readU16(bytes, at + 16),
  };
}

export function encodeNode(bytes: Uint8Array, at: number, node: ClusterNode): void {
  bytes.fill(0, at, at + nodeBytes);
  encodeNodeId(bytes, at + 24, node);
  writeU16(bytes, at + 64, node.vnodes);
  writeU32(bytes, at + 68, node.zone);
  writeU64(bytes, at + 72, node.spaceBytes);
}

export function decodeNode(bytes: Uint8Array, at: number): ClusterNode {
  return {
    ...decodeNodeId(bytes, at + 24),
    vnodes: readU16(bytes, at + 64),
    zone: readU32(bytes, at + 68),
    spaceBytes: readU64(bytes, at + 72),
  };
}

export function encodeNodes(nodes: readonly ClusterNode[]): Uint8Array {
  const bytes = new Uint8Array(nodeBytes * nodes.length);
  for (const [index, node] of nodes.entries()) encodeNode(bytes, nodeBytes * index, node);
  return bytes;
}

/** The first `count` nodes. Throws "invalid" if there are not so many. */
export function decodeNodes(bytes: Uint8Array, count: number): ClusterNode[] {
  if (count > nodesMax || count * nodeBytes > bytes.length) {
    throw new KelpieError("invalid", `a list of ${count} nodes in ${bytes.length} bytes`);
  }
  return Array.from({ length: count }, (_, index) => decodeNode(bytes, nodeBytes * index));
}

const addressBytes = 16;

/** Throws "invalid" for a name, or anything else that is no address. */
export function encodeIpAddress(host: string): Uint8Array {
  const bytes = new Uint8Array(addressBytes);
  const words = ipWords(host);
  if (words === undefined) throw new KelpieError("invalid", `"${host}" is no IP address`);
  for (const [index, word] of words.entries()) {
    bytes[2 * index] = word >>> 8;
    bytes[2 * index + 1] = word;
  }
  return bytes;
}

/** The zone a node is in unless it is told another: the address's last four bytes as a number. */
export function defaultZone(host: string): number {
  return readU32(encodeIpAddress(host), 12);
}

/** Eight words of 16 bits. */
function ipWords(host: string): number[] | undefined {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(host)?.slice(1).map(Number);
  if (four !== undefined) {
    const [a = 0, b = 0, c = 0, d = 0] = four;
    if (four.some((part) => part > 255)) return undefined;
    return [0, 0, 0, 0, 0, 0, a * 256 + b, c * 256 + d];
  }
  // The one parser of IPv6 addresses that is at hand; it gives the shortest form.
  const url = URL.parse(`http://[${host}]`);
  if (url === null) return undefined;
  const [front = "", back] = url.hostname.slice(1, -1).split("::");
  const head = wordsOf(front);
  if (back === undefined) return head;
  const tail = wordsOf(back);
  return [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail];
}

function wordsOf(text: string): number[] {
  return text === "" ? [] : text.split(":").map((word) => Number.parseInt(word, 16));
}

function formatIpAddress(bytes: Uint8Array): string {
  // "::1" and "::" are not written as IPv4, though their bytes could be.
  const isIpv4 = bytes.subarray(0, 12).every((byte) => byte === 0) && bytes[12] !== 0;
  if (isIpv4) return bytes.subarray(12).join(".");
  const words = Array.from({ length: 8 }, (_, index) =>
    (((bytes[2 * index] as number) << 8) | (bytes[2 * index + 1] as number)).toString(16),
  );
  return new URL(`http://[${words.join(":")}]`).hostname.slice(1, -1);
}
