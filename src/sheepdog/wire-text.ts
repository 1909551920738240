import { decodeUtf8, encodeUtf8 } from "../base/bytes.ts";
import { KelpieError } from "../base/errors.ts";

/**
 * Text in a field of fixed width: padded with zero bytes, and it need not end with one.
 * Throws "invalid" for text that does not fit or has a zero byte.
 */
export function encodeText(bytes: Uint8Array, at: number, text: string, width: number): void {
  const encoded = encodeUtf8(text);
  if (encoded.length > width || encoded.includes(0)) {
    throw new KelpieError("invalid", `"${text}" does not fit a field of ${width} bytes`);
  }
  bytes.set(encoded, at);
  bytes.fill(0, at + encoded.length, at + width);
}

/** Throws "invalid" for bytes that are not UTF-8. */
export function decodeText(bytes: Uint8Array, at: number, width: number): string {
  return decodeUtf8(fieldOf(bytes, at, width));
}

/** Every byte is a character: no two texts become one. */
export function decodeLatin1Text(bytes: Uint8Array, at: number, width: number): string {
  return Buffer.from(fieldOf(bytes, at, width)).toString("latin1");
}

function fieldOf(bytes: Uint8Array, at: number, width: number): Uint8Array {
  const field = bytes.subarray(at, at + width);
  const end = field.indexOf(0);
  return end === -1 ? field : field.subarray(0, end);
}

/** Longest name of a VDI, a tag or an attribute's key, with the zero byte after it. */
export const nameBytes = 256;

/** The payload of requests that name a VDI: the name, and a tag behind it if one is given. */
export function encodeSelectorText(name: string, tag?: string): Uint8Array {
  const bytes = new Uint8Array(tag === undefined ? nameBytes : 2 * nameBytes);
  encodeText(bytes, 0, name, nameBytes);
  if (tag !== undefined) encodeText(bytes, nameBytes, tag, nameBytes);
  return bytes;
}

/** Throws "invalid" for any length but 256 and 512, and for text that is not UTF-8. */
export function decodeSelectorText(bytes: Uint8Array): { name: string; tag: string } {
  if (bytes.length !== nameBytes && bytes.length !== 2 * nameBytes) {
    throw new KelpieError("invalid", `a name and a tag of ${bytes.length} bytes`);
  }
  const name = decodeText(bytes, 0, nameBytes);
  const tag = bytes.length === nameBytes ? "" : decodeText(bytes, nameBytes, nameBytes);
  return { name, tag };
}
