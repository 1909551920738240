import type { SeededRandom } from "../../sim/random.ts";
import { batchSeed } from "../../src/store/formats/batch.ts";
import { decodeIdentity } from "../../src/store/formats/identity.ts";
import { mendBatch, mendFrame, mendNode, mendUnit } from "./forge.ts";
import { pick } from "./generated-requests.ts";
import type { StoreFiles } from "./kept-store.ts";
import { mutate } from "./mutate.ts";

/**
 * Changes one structure of one file and makes its checksum right: what a writer with a bug, or with bad
 * intentions, could leave.
 */
export function forgeOne(files: StoreFiles, random: SeededRandom): StoreFiles {
  const path = pick(random, [...files.keys()]);
  const bytes = Buffer.from(files.get(path) ?? []);
  return new Map([...files, [path, forgeFile(path, bytes, { files, random })]]);
}

function forgeFile(
  path: string,
  bytes: Buffer,
  { files, random }: { files: StoreFiles; random: SeededRandom },
): Buffer {
  if (path.startsWith("logs/") && !path.includes(".")) {
    return forgeSegment(bytes, random, mendBatch(batchSeed(storeIdOf(files))));
  }
  if (path.startsWith("maps/") && !path.includes(".")) return forgeNode(bytes, random);
  return path.includes(".") ? forgeIndex(bytes, random) : forgeJson(bytes, random);
}

function storeIdOf(files: StoreFiles): Buffer {
  return Buffer.from(decodeIdentity(files.get("store") ?? Buffer.alloc(0), "store").id, "hex");
}

/** Another number in place of one of those that the JSON has. */
function forgeJson(bytes: Buffer, random: SeededRandom): Buffer {
  const text = bytes.subarray(16).toString();
  const numbers = [...text.matchAll(/(?<=[[,:])\d+/g)];
  const { index, 0: digits } = pick(random, numbers);
  const near = Math.max(0, Number(digits) + random.below(5) - 2);
  const value = pick(random, [near, near, 0, 1, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 53 - 1]);
  const forged = `${text.slice(0, index)}${value}${text.slice(index + digits.length)}`;
  const frame = Buffer.concat([bytes.subarray(0, 16), Buffer.from(forged)]);
  frame.writeUInt32LE(Buffer.byteLength(forged), 8);
  mendFrame(frame);
  return frame;
}

function forgeSegment(bytes: Buffer, random: SeededRandom, mend: (bytes: Buffer) => void): Buffer {
  const units = Array.from({ length: bytes.length / 512 }, (_, unit) => unit * 512);
  const starts = units.filter((at) => bytes.toString("latin1", at, at + 3) === "KLP");
  const at = pick(random, starts);
  const magic = bytes.toString("latin1", at, at + 4);
  const length = magic === "KLPB" ? bytes.readUInt16LE(at + 6) * 512 : 512;
  const old = bytes.subarray(at, at + length);
  const forged = Buffer.from(old);
  withNumbers(forged, random, 4);
  if (magic === "KLPB") mend(forged);
  else if (magic === "KLPF") mendFrame(forged);
  else mendUnit(forged);
  return Buffer.concat([bytes.subarray(0, at), forged, bytes.subarray(at + length)]);
}

function forgeNode(bytes: Buffer, random: SeededRandom): Buffer {
  const starts: number[] = [];
  for (let at = 8; at + 24 <= bytes.length; ) {
    starts.push(at);
    at += Math.ceil((24 + bytes.readUInt32LE(at + 4)) / 8) * 8;
  }
  const at = pick(random, starts);
  const end = at + 24 + bytes.readUInt32LE(at + 4);
  const forged = Buffer.from(bytes.subarray(at, end));
  withNumbers(forged, random, 24);
  mendNode(forged);
  return Buffer.concat([bytes.subarray(0, at), forged, bytes.subarray(end)]);
}

function forgeIndex(bytes: Buffer, random: SeededRandom): Buffer {
  const end = 16 + bytes.readUInt32LE(8);
  const forged = Buffer.from(bytes.subarray(0, end));
  withNumbers(forged, random, 16);
  mendFrame(forged);
  return Buffer.concat([forged, bytes.subarray(end)]);
}

/** Changes behind `from` that keep the length. */
function withNumbers(bytes: Buffer, random: SeededRandom, from: number): void {
  const changed = mutate(bytes.subarray(from), random);
  changed.copy(bytes, from, 0, bytes.length - from);
}
