import { readU32, writeU32 } from "../base/little-endian.ts";

/*
 * A 64-bit object id, little-endian.
 *
 *  bits 0..31   index: of a data or vmstate object, of a B-tree node; an attribute's id
 *  bits 32..55  vid; of an attribute: the hash of the VDI's name
 *  bits 56..58  zero
 *  bit  59      ledger        60  B-tree node     61  attribute     62  vmstate     63  inode
 *
 * At most one of bits 59 to 63 is set; none of them: data. An inode has index 0. An id that is none of
 * these names no object: decoding gives undefined.
 */
export type OidKind = "data" | "vmstate" | "inode" | "attribute" | "btree" | "ledger";

export interface Oid {
  kind: OidKind;
  /** 24 bits. */
  vid: number;
  /** 32 bits. */
  index: number;
}

export const oidBytes = 8;
/** Vids, and vid 0, which is never used. */
export const vidsMax = 2 ** 24;

const kindBits: Record<OidKind, number> = {
  data: 0,
  ledger: 0x08,
  btree: 0x10,
  attribute: 0x20,
  vmstate: 0x40,
  inode: 0x80,
};

const kindByBits = new Map(
  (Object.keys(kindBits) as OidKind[]).map((kind) => [kindBits[kind], kind]),
);

export function inodeOid(vid: number): Oid {
  return { kind: "inode", vid, index: 0 };
}

export function encodeOid(bytes: Uint8Array, at: number, oid: Oid): void {
  writeU32(bytes, at, oid.index);
  writeU32(bytes, at + 4, (kindBits[oid.kind] << 24) | oid.vid);
}

export function decodeOid(bytes: Uint8Array, at: number): Oid | undefined {
  const index = readU32(bytes, at);
  const high = readU32(bytes, at + 4);
  const kind = kindByBits.get(high >>> 24);
  if (kind === undefined || (kind === "inode" && index !== 0)) return undefined;
  return { kind, vid: high & 0xffffff, index };
}

/** As it is written everywhere: 16 hexadecimal digits. */
export function formatOid(oid: Oid): string {
  const kind = hex(kindBits[oid.kind], 2);
  return kind + hex(oid.vid, 6) + hex(oid.index, 8);
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
