import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { entryKind } from "../../src/store/formats/batch.ts";
import { blockCrcs } from "../../src/store/tip.ts";
import { sparseFiles } from "./sparse-files.ts";

export interface BigDisk {
  /** Of a store, made if it is not there. */
  directory: string;
  name: string;
  sizeBytes: number;
}

const blockBytes = 4096;
/** Of one operation: as many as the store itself puts into one. */
const operationBlocks = 1024;
/** Changed maps after which a checkpoint is written, below where writers of a store would wait for it. */
const dirtyBytesMax = 64 * 2 ** 20;
/** Nothing here is worth a sync every few MiB: the last one covers all. */
const syncBytes = 2 ** 30;

/**
 * Maps a whole disk, block for block, as a guest that writes it from end to end would: the store's own log
 * writer, maps and checkpoints. Only the blocks themselves, all zeros, are holes of the segment files.
 */
export async function buildBigDisk(disk: BigDisk): Promise<void> {
  const { directory, name, sizeBytes } = disk;
  const zeros = new Uint8Array(operationBlocks * blockBytes);
  const crcs = blockCrcs([zeros], operationBlocks);
  const node = createNodeHost({ logLevel: "warn" });
  const host = { ...node, files: sparseFiles(node.files, zeros.buffer) };
  const opened = await openLocalStore({ directory, create: true, syncBytes }, { host });
  try {
    const { store } = opened.vdis;
    await opened.control.call("vdi.create", { name, sizeBytes });
    const log = await opened.vdis.volume(name).tip.openLog();
    const blocks = sizeBytes / blockBytes;
    for (let block = 0; block < blocks; block += operationBlocks) {
      const count = Math.min(operationBlocks, blocks - block);
      await log.append({
        kind: entryKind.data,
        block,
        count,
        chunks: [zeros.subarray(0, count * blockBytes)],
        crcs: crcs.subarray(0, count),
      });
      if (store.state.nodes.dirtyBytes >= dirtyBytesMax) await store.checkpoint();
    }
  } finally {
    await opened.close();
  }
}
