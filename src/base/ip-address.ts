/**
 * The 16 bytes of an IP address; an IPv4 address as IPv6 maps it, ::ffff:a.b.c.d. Undefined for anything
 * else, names and zones ("fe80::1%eth0") too.
 */
export function parseIpAddress(text: string): Uint8Array | undefined {
  const quad = parseQuad(text);
  if (quad !== undefined) return mapped(quad);
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half, index) => {
    return parseGroups(half, { last: index === halves.length - 1 });
  });
  if (head === undefined) return undefined;
  const count = head.length + (tail?.length ?? 0);
  // "::" stands for at least one group of zeros.
  if (halves.length === 1 ? count !== 16 : tail === undefined || count > 14) return undefined;
  const bytes = new Uint8Array(16);
  bytes.set(head, 0);
  if (tail !== undefined) bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** Whether the first `bits` of both are the same. */
export function sharesPrefix(one: Uint8Array, other: Uint8Array, bits: number): boolean {
  for (let bit = 0; bit < bits; bit++) {
    const mask = 0x80 >> (bit & 7);
    if ((((one[bit >> 3] ?? 0) ^ (other[bit >> 3] ?? 0)) & mask) !== 0) return false;
  }
  return true;
}

/** Bits of an IPv6 address before the four bytes of a mapped IPv4 one. */
export const mappedPrefixBits = 96;

function parseQuad(text: string): number[] | undefined {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) return undefined;
  const quad = text.split(".").map(Number);
  return quad.every((part) => part <= 255) ? quad : undefined;
}

function mapped(quad: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set([0xff, 0xff, ...quad], 10);
  return bytes;
}

/** Groups of an IPv6 address; what ends it may be an IPv4 one. */
function parseGroups(text: string, { last }: { last: boolean }): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    const quad = last && index === groups.length - 1 ? parseQuad(group) : undefined;
    if (quad !== undefined) {
      bytes.push(...quad);
    } else if (/^[0-9a-f]{1,4}$/i.test(group)) {
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    } else {
      return undefined;
    }
  }
  return bytes.length > 16 ? undefined : bytes;
}
