import { KelpieError } from "../base/errors.ts";
import { readU32, writeU32 } from "../base/little-endian.ts";
import { fnv1a } from "./wire-hash.ts";
import { decodeText, encodeText, nameBytes } from "./wire-text.ts";
import { decodeTime, encodeTime } from "./wire-time.ts";

/*
 * An attribute of a VDI, little-endian
 *
 *    0    256  name of the VDI; empty: deleted
 *  256    256  tag
 *  512      8  time of creation
 *  520      4  snap id
 *  524      4  length of the value
 *  528    256  key
 *  784  65536  value
 *
 * The id of an attribute is the low half of the hash of name, tag, snap id and key, as they stand in
 * it; if that one is taken by another, the next free one behind it. Its object stands under the hash
 * of the VDI's name instead of a vid, so it outlives snapshots.
 */
export const attributeBytes = 66_320;
export const attributeValueBytesMax = 65_536;
const valueAt = 784;

export interface Attribute {
  name: string;
  tag: string;
  createdMs: number;
  snapId: number;
  key: string;
  value: Uint8Array;
}

/** Throws "invalid" for a value that is too long, as for text that is. */
export function encodeAttribute(attribute: Attribute): Uint8Array {
  const { value } = attribute;
  if (value.length > attributeValueBytesMax) {
    throw new KelpieError("invalid", `an attribute's value of ${value.length} bytes`, {
      remedy: `at most ${attributeValueBytesMax} bytes fit`,
    });
  }
  const bytes = new Uint8Array(attributeBytes);
  encodeText(bytes, 0, attribute.name, nameBytes);
  encodeText(bytes, 256, attribute.tag, nameBytes);
  encodeTime(bytes, 512, attribute.createdMs);
  writeU32(bytes, 520, attribute.snapId);
  writeU32(bytes, 524, value.length);
  encodeText(bytes, 528, attribute.key, nameBytes);
  bytes.set(value, valueAt);
  return bytes;
}

/** The value is a view. Throws "invalid" for another size, a value that is too long, or bad text. */
export function decodeAttribute(bytes: Uint8Array): Attribute {
  const valueBytes = bytes.length === attributeBytes ? readU32(bytes, 524) : Infinity;
  if (valueBytes > attributeValueBytesMax) {
    throw new KelpieError("invalid", "an attribute of impossible size");
  }
  return {
    name: decodeText(bytes, 0, nameBytes),
    tag: decodeText(bytes, 256, nameBytes),
    createdMs: decodeTime(bytes, 512),
    snapId: readU32(bytes, 520),
    key: decodeText(bytes, 528, nameBytes),
    value: bytes.subarray(valueAt, valueAt + valueBytes),
  };
}

/** Where the search for an attribute begins: 32 bits. */
export function attributeHash(
  attribute: Pick<Attribute, "name" | "tag" | "snapId" | "key">,
): number {
  const bytes = new Uint8Array(3 * nameBytes + 4);
  encodeText(bytes, 0, attribute.name, nameBytes);
  encodeText(bytes, 256, attribute.tag, nameBytes);
  writeU32(bytes, 512, attribute.snapId);
  encodeText(bytes, 516, attribute.key, nameBytes);
  return fnv1a(bytes).low;
}
