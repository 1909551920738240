import { KelpieError } from "../base/errors.ts";
import { batchSeed, entryKind, entryOfWords, unitBytes } from "./formats/batch.ts";
import { decodeBodyIndex, mapBodyKind, segmentBodyKind } from "./formats/body.ts";
import { decodeCatalogRecord } from "./formats/catalog-record.ts";
import { decodeCheckpoint } from "./formats/checkpoint.ts";
import { decodeIdentity } from "./formats/identity.ts";
import { nodeBytes } from "./formats/map-node.ts";
import { mapObjectStart } from "./formats/map-object.ts";
import { decodeSegmentHeader } from "./formats/segment.ts";
import {
  catalogPrefix,
  checkpointPrefix,
  identityKey,
  logPrefix,
  logsPrefix,
  mapsPrefix,
  parseNumbered,
} from "./keys.ts";
import { readSeal, scanBatches } from "./log/segment-scan.ts";
import type { Store } from "./store.ts";

/** Lines of one answer. */
const linesMax = 10_000;

/** Any part of a store as text: what a key holds, or the keys below a prefix that ends in "/". */
export async function inspectStore(store: Store, key: string): Promise<string[]> {
  const { backend } = store;
  if (key === "" || key.endsWith("/")) return await backend.list(key);
  if (key === identityKey) return json(decodeIdentity(await backend.get(key), key));
  if (key.startsWith(catalogPrefix)) return json(decodeCatalogRecord(await backend.get(key), key));
  if (key.startsWith(checkpointPrefix)) {
    return json(decodeCheckpoint(await backend.get(key), key));
  }
  if (key.startsWith(mapsPrefix)) return mapLines(key, Buffer.from(await backend.get(key)));
  if (key.startsWith(logsPrefix)) return segmentLines(store, key);
  throw new KelpieError("invalid", `"${key}" is not the key of anything in a store`, {
    remedy: 'Begin with `kelpie store inspect ""`.',
  });
}

function json(value: unknown): string[] {
  return JSON.stringify(value, null, 2).split("\n").slice(0, linesMax);
}

function mapLines(key: string, bytes: Buffer): string[] {
  if (parseNumbered(mapsPrefix, key)?.generation !== 0) {
    const { words, generation } = decodeBodyIndex(mapBodyKind, bytes, key);
    return [`cleaned map object, generation ${generation}, ${words.length / 4} nodes`];
  }
  const lines = ["offset type index bytes"];
  const types = ["?", "leaf", "chunk", "page", "root"];
  for (let offset = mapObjectStart; offset < bytes.length && lines.length < linesMax; ) {
    const length = nodeBytes(bytes.subarray(offset));
    if (length === undefined) return [...lines, `${offset} damaged`];
    const index = bytes.readUInt32LE(offset + 8);
    lines.push(`${offset} ${types[bytes[offset + 2] as number]} ${index} ${length}`);
    offset += Math.ceil(length / 8) * 8;
  }
  return lines;
}

async function segmentLines(store: Store, key: string): Promise<string[]> {
  const { backend } = store;
  const log = Number.parseInt(key.slice(logsPrefix.length, logsPrefix.length + 16), 16);
  const name = parseNumbered(logPrefix(log), key);
  if (name === undefined) throw new KelpieError("invalid", `"${key}" is not a segment's key`);
  if (name.generation > 0) {
    const { words } = decodeBodyIndex(segmentBodyKind, await backend.get(key), key);
    return [`cleaned segment, generation ${name.generation}, ${words.length / 4} blocks`];
  }
  const handle = await backend.open(key);
  try {
    const start = Buffer.alloc(unitBytes);
    await handle.read(start, 0);
    const header = decodeSegmentHeader(start);
    if (header === undefined) return ["no valid header"];
    const scan = await scanBatches(handle, {
      log,
      segment: name.number,
      seed: batchSeed(header.storeId),
      units: 1,
      previous: header.crc,
      verifyFromUnits: 0,
      limitUnits: Number.POSITIVE_INFINITY,
    });
    const seal = await readSeal(handle, { log, segment: name.number });
    const lines = [
      `segment ${name.number} of log ${log}, ${seal === undefined ? "not sealed" : "sealed"}`,
      `whole batches up to byte ${scan.endUnits * unitBytes}, blocks checked`,
      "kind block count offset",
    ];
    const { entries } = scan.summary;
    const kinds = { [entryKind.data]: "data", [entryKind.hole]: "hole", [entryKind.zero]: "zero" };
    for (let index = 0; index < entries.length / 4 && lines.length < linesMax; index++) {
      const { kind, block, count, position } = entryOfWords(entries, index);
      lines.push(`${kinds[kind as 1 | 2 | 3]} ${block} ${count} ${position * unitBytes}`);
    }
    return lines;
  } finally {
    await handle.close();
  }
}
