import { assert } from "../base/assert.ts";

/**
 * Names of the immutable things of a store. Numbers are 16 hex digits, so that listing is ordering.
 *
 *   store                         identity and feature bits, written once
 *   catalog/<number>              one structural change each
 *   checkpoints/<number>          the state after catalog record <number of records covered>
 *   logs/<log>/<segment>          a segment as written
 *   logs/<log>/<segment>.<gen>    the same without its dead blocks; the highest generation counts
 *   tails/<log>/<segment>.<n>     the n-th part of a segment that is not there as a whole yet
 *   spare/<number>                a file kept to be written over; means nothing
 *   maps/<number>, maps/<number>.<gen>   nodes of maps, likewise
 */
export const identityKey = "store";
export const catalogPrefix = "catalog/";
export const checkpointPrefix = "checkpoints/";
export const logsPrefix = "logs/";
export const mapsPrefix = "maps/";
export const tailsPrefix = "tails/";
export const spareDirectory = "spare";
/** Of a store in an object store: who writes it, and keys that only try something out. */
export const ownersPrefix = "owners/";
export const probesPrefix = "probe/";

/** The id of the store of which a copy is being made here. */
export const copyingKey = "copying";

/** Of what a copy of a store consists: logs before maps before what leads to them. */
export const storeParts = [logsPrefix, mapsPrefix, checkpointPrefix, catalogPrefix, identityKey];

/** How everything begins that is a store's in an object store. */
export const topNames: ReadonlySet<string> = new Set(
  [
    identityKey,
    catalogPrefix,
    checkpointPrefix,
    logsPrefix,
    mapsPrefix,
    tailsPrefix,
    ownersPrefix,
    probesPrefix,
    copyingKey,
  ].map((name) => name.replace("/", "")),
);

export function ownerKey(number: number): string {
  return ownersPrefix + hex16(number);
}

export function catalogKey(number: number): string {
  return catalogPrefix + hex16(number);
}

export function checkpointKey(number: number): string {
  return checkpointPrefix + hex16(number);
}

export function logPrefix(log: number): string {
  return `${logsPrefix}${hex16(log)}/`;
}

export function segmentKey(log: number, segment: number, generation = 0): string {
  return logPrefix(log) + hex16(segment) + suffixOf(generation);
}

export function tailPrefix(log: number): string {
  return `${tailsPrefix}${hex16(log)}/`;
}

export function tailKey(log: number, segment: number, tail: number): string {
  return tailPrefix(log) + hex16(segment) + suffixOf(tail);
}

export function mapKey(number: number, generation = 0): string {
  return mapsPrefix + hex16(number) + suffixOf(generation);
}

/** The number and generation at the end of a key, or undefined if it has another form. */
export function parseNumbered(
  prefix: string,
  key: string,
): { number: number; generation: number } | undefined {
  if (!key.startsWith(prefix)) return undefined;
  const match = /^([0-9a-f]{16})(?:\.([0-9a-f]{8}))?$/.exec(key.slice(prefix.length));
  if (match?.[1] === undefined) return undefined;
  const number = Number.parseInt(match[1], 16);
  if (!Number.isSafeInteger(number)) return undefined;
  return { number, generation: match[2] === undefined ? 0 : Number.parseInt(match[2], 16) };
}

/** Of a key of a segment, whatever its generation. */
export function segmentOfKey(
  key: string,
): { log: number; number: number; generation: number } | undefined {
  if (!key.startsWith(logsPrefix)) return undefined;
  const log = Number.parseInt(key.slice(logsPrefix.length, logsPrefix.length + 16), 16);
  if (!Number.isSafeInteger(log)) return undefined;
  const parsed = parseNumbered(logPrefix(log), key);
  return parsed === undefined ? undefined : { log, ...parsed };
}

function suffixOf(generation: number): string {
  return generation === 0 ? "" : `.${generation.toString(16).padStart(8, "0")}`;
}

function hex16(number: number): string {
  assert(Number.isSafeInteger(number) && number >= 0, `not a number for a key: ${number}`);
  return number.toString(16).padStart(16, "0");
}
