import { KelpieError } from "../base/errors.ts";
import { blockBytes } from "../block/block-device.ts";
import type { Point } from "../store/point.ts";
import type { Store } from "../store/store.ts";
import type { Tip } from "../store/tip.ts";

export interface CopyProgress {
  progress?: ((progress: { doneBytes: number; totalBytes: number }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Copied at once: large enough to be cheap, small enough to be aborted soon. */
const copyBlocksMax = 1024;

/** Copies all that a point maps; holes stay holes. */
export async function copyBlocks(
  what: { store: Store; from: Point; to: Tip },
  options: CopyProgress,
): Promise<void> {
  const { store, from, to } = what;
  const end = Math.ceil(from.sizeBytes / blockBytes);
  const totalBytes = from.mappedBlocks * blockBytes;
  let doneBytes = 0;
  for (let first = 0; first < end; ) {
    const extents = await store.allocation(from, { first, count: end - first, extentsMax: 256 });
    for (const { blocks, value } of extents) {
      for (let done = 0; value === 0 && done < blocks; done += copyBlocksMax) {
        if (options.signal?.aborted === true) throw new KelpieError("closed", "stopped on request");
        const target = Buffer.allocUnsafe(Math.min(copyBlocksMax, blocks - done) * blockBytes);
        await store.read(from, { target, first: first + done });
        await to.write([target], first + done);
        doneBytes += target.length;
        options.progress?.({ doneBytes, totalBytes });
      }
      if (value === 2) await to.zero(first, blocks, "zero");
      first += blocks;
    }
  }
}
