import { SeededRandom } from "../../sim/random.ts";
import { type BlockDevice, blockBytes } from "../../src/block/block-device.ts";

export interface Changes {
  /** For each block, 1 if it differs from what it was before. */
  blocks: Uint8Array;
  /** For each block, 1 if it has data now. */
  isData: Uint8Array;
}

/** Of one change; some are within a block, some over many. */
const changeBytesMax = 256 * 1024;
const sectorBytes = 512;

/**
 * Writes, zeroes and trims random ranges of sectors, and says which blocks that has changed: those
 * with new data, and those that had data and are holes now. A hole that was trimmed has not changed.
 */
export async function changeAtRandom(
  device: BlockDevice,
  { seed, isData, changes }: { seed: number; isData: Uint8Array; changes: number },
): Promise<Changes> {
  const random = new SeededRandom(seed);
  const now = isData.slice();
  const isWritten = new Uint8Array(isData.length);
  const wrote = (start: number, end: number): void => {
    const [first, last] = [Math.floor(start / blockBytes), Math.ceil(end / blockBytes)];
    now.fill(1, first, last);
    isWritten.fill(1, first, last);
  };
  for (let count = 0; count < changes; count++) {
    const length = sectorBytes * (1 + random.below(changeBytesMax / sectorBytes));
    const offset = sectorBytes * random.below((device.sizeBytes - length) / sectorBytes + 1);
    const end = offset + length;
    const first = Math.ceil(offset / blockBytes);
    const last = Math.max(first, Math.floor(end / blockBytes));
    switch (random.below(3)) {
      case 0:
        await device.write([Buffer.alloc(length, 1 + random.below(255))], offset);
        wrote(offset, end);
        break;
      case 1:
        await device.zero(offset, length);
        // Parts of blocks at the ends are written, the blocks between become holes.
        if (offset % blockBytes !== 0) wrote(offset, Math.min(end, first * blockBytes));
        if (end % blockBytes !== 0) wrote(Math.max(offset, last * blockBytes), end);
        now.fill(0, first, last);
        break;
      default:
        await device.trim(offset, length);
        now.fill(0, first, last);
    }
  }
  const blocks = isData.map((before, block) => {
    if (now[block] === 1) return isWritten[block] as number;
    return before;
  });
  return { blocks, isData: now };
}
