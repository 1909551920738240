import { crc32 } from "../../base/crc32.ts";
import { KelpieError } from "../../base/errors.ts";
import {
  blockUnits,
  type EntryKind,
  entryKind,
  entryOfWords,
  unitBytes,
} from "../formats/batch.ts";
import type { AppendOperation } from "./append.ts";
import type { OpenSegment } from "./open-segment.ts";
import { scanBatches } from "./segment-scan.ts";

/** Blocks to put into one batch when data is written again. */
const blocksMax = 1024;

/**
 * The operations of a segment that are not known to be synced, read back from the file and checked.
 * Fails with "io" if any of them cannot be had whole.
 */
export async function readBack(open: OpenSegment): Promise<AppendOperation[][]> {
  const from = open.syncedPlace;
  const startUnits = Math.max(1, from.units);
  const scan = await scanBatches(open.handle, {
    log: open.segment.log,
    segment: open.segment.number,
    seed: open.seed,
    units: startUnits,
    previous: from.crc,
    verifyFromUnits: 0,
    limitUnits: open.units,
  });
  if (scan.endUnits !== open.units) {
    throw new KelpieError("io", `segment ${open.segment.number} cannot be read back whole`);
  }
  const batches: AppendOperation[][] = [];
  let crcAt = 0;
  let blocks = blocksMax;
  for (let index = 0; index < scan.summary.entries.length / 4; index++) {
    const entry = entryOfWords(scan.summary.entries, index);
    const isData = entry.kind === entryKind.data;
    const crcs = scan.summary.crcs.subarray(crcAt, crcAt + (isData ? entry.count : 0));
    crcAt += crcs.length;
    const operation: AppendOperation = {
      kind: entry.kind as EntryKind,
      block: entry.block,
      count: entry.count,
      chunks: isData ? [await readBlocks(open, entry.position, crcs)] : [],
      crcs,
    };
    blocks += isData ? entry.count : 1;
    if (blocks > blocksMax) {
      batches.push([]);
      blocks = isData ? entry.count : 1;
    }
    batches.at(-1)?.push(operation);
  }
  return batches;
}

async function readBlocks(open: OpenSegment, position: number, crcs: Uint32Array): Promise<Buffer> {
  const blockBytes = blockUnits * unitBytes;
  const bytes = Buffer.allocUnsafe(crcs.length * blockBytes);
  const read = await open.handle.read(bytes, position * unitBytes);
  const whole =
    read === bytes.length &&
    crcs.every((crc, at) => crc32(bytes.subarray(at * blockBytes, (at + 1) * blockBytes)) === crc);
  if (!whole) throw new KelpieError("io", `segment ${open.segment.number} cannot be read back`);
  return bytes;
}
