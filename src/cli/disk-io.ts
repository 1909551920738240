import { type BlockDevice, sectorBytes } from "../block/block-device.ts";
import { nonZeroRuns, type Range } from "./pipeline.ts";

/**
 * Any bytes of a disk, although requests are in sectors: what is not aligned is read whole, and
 * written by reading the sectors at its ends first. Not atomic against other writers of those.
 */
export async function readBytes(device: BlockDevice, range: Range): Promise<Uint8Array> {
  const start = roundDown(range.offset);
  const end = roundUp(range.offset + range.length);
  const sectors = new Uint8Array(end - start);
  await device.read(sectors, start);
  return sectors.subarray(range.offset - start, range.offset - start + range.length);
}

export async function writeBytes(
  device: BlockDevice,
  bytes: Uint8Array,
  offset: number,
): Promise<void> {
  const start = roundDown(offset);
  const end = roundUp(offset + bytes.length);
  if (start === offset && end - start === bytes.length) {
    await device.write([bytes], offset);
    return;
  }
  const head = new Uint8Array(sectorBytes);
  const tail = new Uint8Array(sectorBytes);
  await device.read(head, start);
  await device.read(tail, end - sectorBytes);
  const before = head.subarray(0, offset - start);
  const tailUsed = sectorBytes - (end - (offset + bytes.length));
  await device.write([before, bytes, tail.subarray(tailUsed)], start);
}

/** Writes what is not zero; the disk is new, so the rest is zero already, and stays a hole. */
export async function writeSparse(
  device: BlockDevice,
  bytes: Uint8Array,
  offset: number,
): Promise<void> {
  const runs = [...nonZeroRuns(bytes)];
  await Promise.all(
    runs.map(({ start, end }) => device.write([bytes.subarray(start, end)], offset + start)),
  );
}

/** Writes over what is there; whole blocks of zeros are made holes. */
export async function overwrite(
  device: BlockDevice,
  bytes: Uint8Array,
  offset: number,
): Promise<void> {
  // Runs are blocks of the piece, not of the disk: they fit only where both are aligned.
  if (offset % sectorBytes !== 0 || bytes.length % sectorBytes !== 0) {
    await writeBytes(device, bytes, offset);
    return;
  }
  let done = 0;
  for (const { start, end } of nonZeroRuns(bytes)) {
    if (start > done) await device.zero(offset + done, start - done);
    await device.write([bytes.subarray(start, end)], offset + start);
    done = end;
  }
  if (done < bytes.length) await device.zero(offset + done, bytes.length - done);
}

/** The ranges of a disk that are not holes. */
export async function* dataRanges(device: BlockDevice): AsyncGenerator<Range> {
  let offset = 0;
  while (offset < device.sizeBytes) {
    const length = Math.min(device.sizeBytes - offset, queryBytesMax);
    const extents = await device.extents({ kind: "allocation", offset, length, extentsMax });
    for (const { lengthBytes, value } of extents) {
      if (value === 0) yield { offset, length: lengthBytes };
      offset += lengthBytes;
    }
  }
}

export function roundUp(bytes: number): number {
  return Math.ceil(bytes / sectorBytes) * sectorBytes;
}

function roundDown(bytes: number): number {
  return bytes - (bytes % sectorBytes);
}

/** Extents asked for at once: a page of answers, not a table of the whole disk. */
const extentsMax = 1024;

/** Within the 32 bits that a request has on a connection without extended headers. */
const queryBytesMax = 2 ** 31;
