import { KelpieError } from "./errors.ts";

/**
 * A size as people write it, in bytes: "512", "64k", "10G", "1.5T", "10GiB", "4096B". Multiples are
 * binary whatever the unit is called, as in QEMU and dog. Fails with "invalid".
 */
export function parseSize(text: string): number {
  const match = sizePattern.exec(text.trim());
  if (match === null || text.length > sizeTextMax) throw notASize(text);
  const [, sign = "", whole = "", fraction = "", unit = ""] = match;
  if (sign === "-") throw new KelpieError("invalid", `size "${text}": a size cannot be negative`);
  // In integers: 1.1 has no exact double, and whole bytes must be told from nearly whole ones.
  const multiple = 1024n ** BigInt(unit === "" ? 0 : "kmgtpe".indexOf(unit.toLowerCase()) + 1);
  const scale = 10n ** BigInt(fraction.length);
  const scaled = BigInt(whole + fraction) * multiple;
  if (scaled % scale !== 0n) throw notWholeBytes(text, scaled / scale);
  const bytes = scaled / scale;
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new KelpieError("invalid", `size "${text}": that is too large`);
  }
  return Number(bytes);
}

/** For people, rounded: "0 B", "512 B", "4.0 KiB", "10 GiB". At most eight characters. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // The rounded number decides: 1,023.9 MiB is "1.0 GiB", not "1024 MiB".
  while (Math.round(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 9.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** For commands to be typed: the shortest text that `parseSize` reads as exactly these bytes. */
export function exactSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value > 0 && value % 1024 === 0 && unit < exactUnits.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value}${exactUnits[unit]}`;
}

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const exactUnits = ["", "K", "M", "G", "T"];
const sizePattern = /^([+-]?)(\d+)(?:\.(\d+))?\s*([kmgtpe]?)(?:i?b)?$/i;

/** Longer than any size can be; keeps the arithmetic small whatever is typed. */
const sizeTextMax = 40;

function notASize(text: string): KelpieError {
  if (text.trim() === "") return new KelpieError("invalid", "the size is empty", sizeRemedy);
  const shown = text.length > sizeTextMax ? `${text.slice(0, sizeTextMax)}…` : text;
  return new KelpieError("invalid", `"${shown}" is not a size`, sizeRemedy);
}

const sizeRemedy = { remedy: "write it like 512M, 10G or 1.5T" };

function notWholeBytes(text: string, below: bigint): KelpieError {
  const near = below - (below % 512n);
  return new KelpieError("invalid", `size "${text}": that is not a whole number of bytes`, {
    remedy: near > 0n ? `${near} is the multiple of 512 just below` : "a byte is the least",
  });
}
