import { KelpieError } from "../base/errors.ts";
import { deviceBytesMax, sectorBytes } from "../block/block-device.ts";

/** Bytes of a name or tag, as Sheepdog has them (256 with a NUL). */
export const nameBytesMax = 255;

/** Throws "invalid" with what is wrong. */
export function checkName(name: string): void {
  checkText(name, "disk name");
  if (name === "." || name === "..") throw invalid(`"${name}" cannot be a disk name`);
}

/** A tag must not look like a snap id: `-s 3` means the third snapshot, as with `dog`. */
export function checkTag(tag: string): void {
  checkText(tag, "tag");
  if (/^#?\d+$/.test(tag)) {
    throw invalid(
      `"${tag}" cannot be a tag: a number means a snap id`,
      "Use a name, such as v" + tag.replace("#", ""),
    );
  }
}

/** A tag of Sheepdog's clients, which may be a number; then only its snap id leads to the snapshot. */
export function checkTagText(tag: string): void {
  checkText(tag, "tag");
}

/** In bytes; a multiple of 512, at least one sector. */
export function checkSize(sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
    throw invalid(`a disk cannot have ${sizeBytes} bytes`);
  }
  if (sizeBytes % sectorBytes !== 0) {
    const next = Math.ceil(sizeBytes / sectorBytes) * sectorBytes;
    throw invalid(
      `a size must be a multiple of 512 bytes, and ${sizeBytes} is not`,
      `Use ${next}.`,
    );
  }
  if (sizeBytes > deviceBytesMax) {
    throw invalid(`${sizeBytes} bytes are more than the 16 TiB a disk can have`);
  }
}

/** A snapshot as people name it: a tag, or an id ("3", "#3"). */
export type Selector = { kind: "tag"; tag: string } | { kind: "id"; snapId: number };

export function parseSelector(text: string): Selector {
  const match = /^#?(\d{1,9})$/.exec(text);
  if (match?.[1] !== undefined) return { kind: "id", snapId: Number(match[1]) };
  if (text === "") throw invalid("an empty tag names no snapshot");
  return { kind: "tag", tag: text };
}

function checkText(text: string, what: string): void {
  if (text === "") throw invalid(`a ${what} cannot be empty`);
  const bytes = Buffer.byteLength(text);
  if (bytes > nameBytesMax) {
    throw invalid(`a ${what} can have ${nameBytesMax} bytes, and this one has ${bytes}`);
  }
  if (/\p{Cc}/u.test(text)) throw invalid(`a ${what} cannot have NUL or other control characters`);
  if (!text.isWellFormed()) throw invalid(`a ${what} must be valid Unicode`);
}

function invalid(message: string, remedy?: string): KelpieError {
  return new KelpieError("invalid", message, remedy === undefined ? {} : { remedy });
}
