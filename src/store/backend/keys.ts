import { KelpieError } from "../../base/errors.ts";

/** Room for a suffix in a file name, which Linux limits to 255 bytes. */
export const keyBytesMax = 200;

const keyPattern = /^[0-9a-z][0-9a-z.-]*(\/[0-9a-z][0-9a-z.-]*)*$/;
const segmentPattern = /^[0-9a-z][0-9a-z.-]*$/;

/**
 * Throws "invalid" unless `key` is a key; a key cannot lead out of the place where keys are kept.
 */
export function checkKey(key: string): void {
  if (key.length <= keyBytesMax && keyPattern.test(key)) return;
  throw new KelpieError("invalid", `${JSON.stringify(key)} is not a key of a store`);
}

export function isKeySegment(name: string): boolean {
  return segmentPattern.test(name);
}
