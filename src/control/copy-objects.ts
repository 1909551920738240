import type { BlockDevice } from "../block/block-device.ts";
import { blockBytes } from "../block/block-device.ts";

/** Read and written at once; objects can be larger. */
export const copyPieceBytes = 4 * 2 ** 20;
const zeros = new Uint8Array(copyPieceBytes);

/**
 * Makes a piece of a disk what `bytes` says, and writes only blocks that are different: a copy takes no more
 * space than the original, whose objects are whole copies of those they were made from.
 */
export async function writeDifferences(
  device: BlockDevice,
  bytes: Uint8Array,
  offset: number,
): Promise<void> {
  const before = new Uint8Array(bytes.length);
  await device.read(before, offset);
  const writing: Promise<void>[] = [];
  for (const { start, end, isZero } of differences(before, bytes)) {
    const at = offset + start;
    const done = isZero
      ? device.zero(at, end - start)
      : device.write([bytes.subarray(start, end)], at);
    writing.push(Promise.resolve(done));
  }
  for (const outcome of await Promise.allSettled(writing)) {
    if (outcome.status === "rejected") throw outcome.reason;
  }
}

/** Runs of blocks that differ, those that become zeros apart from the others. */
function* differences(
  before: Uint8Array,
  after: Uint8Array,
): Generator<{ start: number; end: number; isZero: boolean }> {
  let run: { start: number; end: number; isZero: boolean } | undefined;
  for (let start = 0; start < after.length; start += blockBytes) {
    const end = Math.min(start + blockBytes, after.length);
    const block = after.subarray(start, end);
    const isSame = Buffer.compare(before.subarray(start, end), block) === 0;
    const isZero = !isSame && Buffer.compare(zeros.subarray(0, end - start), block) === 0;
    if (run !== undefined && !isSame && run.isZero === isZero) {
      run.end = end;
      continue;
    }
    if (run !== undefined) yield run;
    run = isSame ? undefined : { start, end, isZero };
  }
  if (run !== undefined) yield run;
}
